"""Run one of timm's scripts with NesT's models known to it.

python -m nestlib.timm validate.py DATA --model nestlib_nest_tiny_imagenet --pretrained
torchrun --nproc-per-node 4 -m nestlib.timm train.py DATA --model nestlib_nest_tiny_imagenet

The scripts lie in timm's repository; its package does not hold them. To import nestlib registers
the models with timm, so nothing else is done here.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the script that the first word names, as `python SCRIPT ...` would."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        found = f"{sys.argv[1]} is no file" if len(sys.argv) > 1 else "no script is named"
        sys.exit(
            f"python -m nestlib.timm: {found}; give the path of one of timm's scripts, such as "
            "train.py, validate.py or benchmark.py of github.com/huggingface/pytorch-image-models"
        )
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
