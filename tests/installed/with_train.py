"""What ``train.py`` can do beside an installed wheel; .ci/run calls it in a fresh environment."""

import subprocess
import sys
import tempfile
from pathlib import Path

import lightning_lazy

LEFT = ("config.yaml", "metrics.csv", "summary.json", "checkpoints/last.ckpt", "figures")


def main() -> None:
    """Run the default experiment shortly; exit with what is wrong, if anything is."""
    if "site-packages" not in str(lightning_lazy.__file__):
        sys.exit(f"the wheel should be imported, not {lightning_lazy.__file__}")
    script = Path(__file__).parent.parent / "train.py"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(script), "max_epochs=1"], cwd=folder, check=True)
        (run,) = Path(folder, "runs", "default").iterdir()
        missing = [name for name in LEFT if not (run / name).exists()]
        if missing:
            sys.exit(f"the run left no {', '.join(missing)}")
        subprocess.run(
            [sys.executable, "-m", "lightning_lazy.figures", str(run)], cwd=folder, check=True
        )


if __name__ == "__main__":
    main()
