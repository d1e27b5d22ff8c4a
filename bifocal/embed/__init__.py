"""Pictures and texts of any source as matrices of features on disk.

`embed` writes a folder, `Embedded.open` reads it. Knows the towers as they are saved and the
sources as they are read; knows nothing of training or of what features are measured for.
"""

from bifocal.embed.embedded import Embedded
from bifocal.embed.job import Job, Kind, Names
from bifocal.embed.neighbours import nearest
from bifocal.embed.run import embed
from bifocal.embed.stored import Encoded, stored_pictures

__all__ = ["Embedded", "Encoded", "Job", "Kind", "Names", "embed", "nearest", "stored_pictures"]
