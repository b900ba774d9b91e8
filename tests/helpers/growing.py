"""Looking into a folder that a study is writing to."""

import glob
from pathlib import Path


def there(folder: Path, pattern: str) -> list[Path]:
    """What is there now. `Path.glob` fails where a folder goes between two of its looks, and a study tries out its storage."""
    return [Path(path) for path in sorted(glob.glob(f"{folder}/{pattern}"))]
