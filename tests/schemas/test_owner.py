"""Whether a process that left something is provably dead."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

from schemas.owner import Owner, is_at_work


def test_this_process_is_alive_and_comes_back_as_it_was_written() -> None:
    owner = Owner.from_json(Owner.current().to_json())

    assert owner == Owner.current()
    assert not owner.is_dead()
    assert is_at_work(os.getpid())


def test_a_process_that_ended_is_dead_also_while_nobody_asked_how() -> None:
    code = "import json; from schemas.owner import Owner; print(json.dumps(Owner.current().to_json()))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert Owner.from_json(json.loads(said)).is_dead()
        assert not is_at_work(process.pid)


def test_nothing_is_proven_of_another_container_or_host() -> None:
    current = Owner.current()

    assert not dataclasses.replace(current, pid_namespace="pid:[1]", started="0").is_dead()
    assert not dataclasses.replace(current, boot_id="another", host="another").is_dead()
    assert dataclasses.replace(current, started="0").is_dead()  # its number was given to another process
    assert str(dataclasses.replace(current, pid=7, host="another")) == "process 7 on another"
