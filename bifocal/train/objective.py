"""From settings to a loss."""

from __future__ import annotations

from bifocal.errors import ConfigError
from bifocal.loss.objective import ContrastiveLoss
from bifocal.loss.predictive import BagOfWordsLoss, CaptionLoss, Loss
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.train.config import RunConfig


def loss_of(config: RunConfig) -> Loss:
    """Return the loss of a run.

    Raises:
        ConfigError: the loss needs a bias of the logits that the model does not have.
    """
    match config.loss.form:
        case "bag_of_words":
            return BagOfWordsLoss()
        case "caption":
            return CaptionLoss()
        case _:
            return contrastive_loss(config)


def contrastive_loss(config: RunConfig) -> ContrastiveLoss:
    """Return the loss of a run that compares pictures with texts.

    Raises:
        ConfigError: the run predicts texts, or the loss needs a bias of the logits that the model
            does not have.
    """
    loss = config.loss
    if loss.form == "sigmoid" and config.model.init_logit_bias is None:
        raise ConfigError(
            "loss.form=sigmoid needs a bias of the logits: set model.init_logit_bias=-10, and "
            "model.init_temperature=0.1 as SigLIP starts"
        )
    match loss.form, loss.tile:
        case "softmax", 0:
            return SoftmaxLoss()
        case "softmax", side:
            return TiledSoftmaxLoss(side)
        case "sigmoid", 0:
            return SigmoidLoss()
        case "sigmoid", side:
            return TiledSigmoidLoss(side)
        case form, _:
            raise ConfigError(f"loss.form={form} compares nothing: use softmax or sigmoid")
