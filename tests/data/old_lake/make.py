"""Makes lake.tar.gz, a lake as version 0 left it, with the code of that time:

    git worktree add ../old 099cff1 && make -C ../old setup
    ../old/.venv/bin/python tests/data/old_lake/make.py

In it are silver, rejected rows, an error document, a dead message, messages that wait, one that a worker had when the
engine was killed, and files that landed or were replaced while no engine ran.
"""

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name("silversmith")), *arguments]
    return subprocess.run(
        line,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


def land(folder: Path, files: Mapping[str, str]) -> None:
    for key, text in files.items():
        path = folder / "lake/dl-bronze-layer" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def kill_at_work(folder: Path) -> None:
    """Run an engine, and kill it while a worker is at a slow file."""
    line = [str(Path(sys.executable).with_name("silversmith")), "run", "--no-page", "--workers=1"]
    engine = subprocess.Popen(
        line,
        cwd=folder,
        env={**os.environ, "OLD_LAKE_SLOW": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while '"in_flight": 1' not in command(folder, "status", "--json").stdout:
        assert time.monotonic() < deadline, "no worker took the slow file"
        time.sleep(0.2)
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    time.sleep(3)  # its worker notices, and ends


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pipeline.py").write_text((HERE / "pipeline.py").read_text())
        land(
            folder,
            {
                "lookup/countries.csv": "country,name\nde,Germany\nfr,France\n",
                "orders/good.csv": "id,country,total\n1,de,2.5\n2,fr,3\n",
                "orders/some-rejected.csv": "id,country,total\n1,de,2.5\n2,fr,-3\n",
                "orders/replaced.csv": "id,country,total\n1,de,1\n",
                "orders/wrong.csv": "no,columns\n1,2\n",
                "events/one.json": '[{"at": 2, "n": "b"}, {"at": 1, "n": "a"}]',
                "events/two.ndjson": '{"at": 1}\n{"at": 2}\n',
                "poison/one.csv": "a\n1\n",
            },
        )
        done = command(folder, "run", "--until-idle", "--no-page", "--workers=1")
        assert done.returncode == 1, done
        land(folder, {"slow/one.csv": "a\n1\n"})
        kill_at_work(folder)
        for pattern in ("orders/good.csv", "events/*"):
            done = command(folder, "replay", pattern, "--force")
            assert done.returncode == 0, done
        land(
            folder,
            {
                "orders/replaced.csv": "id,country,total\n1,de,1\n2,fr,2\n",
                "orders/late.csv": "id,country,total\n9,fr,9\n",
            },
        )
        print(command(folder, "status", "--json").stdout)
        with tarfile.open(HERE / "lake.tar.gz", "w:gz", compresslevel=9) as archive:
            archive.add(folder / "lake", "lake", filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
