"""Drop-in faces: modules with the functions and meanings of `clip` and `open_clip`.

import bifocal.compat.clip as clip
import bifocal.compat.open_clip as open_clip
"""
