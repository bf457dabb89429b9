"""From a spec to user data: quoting, size, and the same bytes for the same input."""

import base64
import gzip
import random
import subprocess

import pytest

from airflow_transient.core.ec2.bootscript import (
    USER_DATA_LIMIT,
    Boot,
    ReportForm,
    boot_script,
    guest,
    job_script,
    stub_script,
    too_long,
    user_data,
    without_comments,
)
from airflow_transient.core.ec2.spec import Ec2Spec

FORM = ReportForm("http://s3", {"key": "p/${filename}", "policy": 'a"b\\c', "x-amz-signature": "00"}, "b", "p/")
BOOT = Boot("t0-1-1", "n0", "eu-west-1", FORM)


def spec(**words):
    return Ec2Spec.of(**{"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"} | words)


def header_value(script, name):
    """What bash makes of one variable of the header."""
    header = script[: script.index("set -u")]
    done = subprocess.run(
        ["bash", "-c", f'{header}\nprintf "%s" "${name}"'], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "command", ["echo it's", 'echo "$HOME" `id` \\', "a\nb", "ü €", "'; rm -rf / #", "$(touch /tmp/x)"]
)
def test_a_job_reaches_the_machine_as_it_was_written(command):
    assert header_value(boot_script(spec(command=command), BOOT), "JOB") == f"#!/bin/bash\n{command}\n"


def test_arguments_are_touched_by_no_shell():
    assert (
        job_script(spec(command=["echo", "a b", "$HOME", "it's"]))
        == "#!/bin/bash\nexec echo 'a b' '$HOME' 'it'\"'\"'s'\n"
    )


def test_variables_are_quoted_twice_and_arrive_once():
    env = header_value(boot_script(spec(environment={"A": "it's $HOME\nx"}), BOOT), "JOB_ENV")
    done = subprocess.run(["bash", "-c", env + 'printf "%s" "$A"'], capture_output=True, text=True, check=True)
    assert done.stdout == "it's $HOME\nx"


def test_a_script_from_windows_runs():
    assert job_script(spec(command=None, script="#!/bin/sh\r\necho\r\n")) == "#!/bin/sh\necho\n"


def test_bash_understands_the_whole_script():
    script = boot_script(spec(environment={"A": "'"}, secrets={"B": "/x"}, instance_profile="p"), BOOT)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    subprocess.run(["bash", "-n"], input=stub_script(spec(), BOOT, "http://x?a=1&b='2'"), text=True, check=True)


def test_a_copy_of_the_shell_that_a_signal_meets_early_tells_no_end(tmp_path):
    """What bash forks has its parent's traps till it gives them up; a signal in between runs them in the copy, too."""
    script = boot_script(spec(), BOOT)
    ours = script[script.index("finish() {") : script.index("trap 'exit 129' HUP")]
    stubs = f"D={tmp_path} LOG={tmp_path}/log P=true CLEAN= HOLD=0 CONSOLE=/dev/null STARTED=; : >$LOG\n"
    stubs += "tell() { echo told; }; put() { :; }; receipt() { :; }; stopping() { false; }\n"
    copy = "( trap 'exit 143' TERM; trap 'finish $?' EXIT; kill -TERM $BASHPID; sleep 9 )\necho copy $?\n"
    done = subprocess.run(["bash", "-c", stubs + ours + copy], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["copy 143", "told"]


def test_the_timer_is_armed_before_anything_reaches_out():
    script = boot_script(spec(), BOOT)
    program = script[script.index("set -u") :]
    assert program.index('apart transient-timer "$D/timer"') < program.index("curl")
    assert program.index('apart transient-timer "$D/timer"') < program.index("metadata()")


def test_the_same_input_gives_the_same_bytes():
    long = spec(command="#" + "x" * 20_000)
    assert user_data(boot_script(long, BOOT)) == user_data(boot_script(long, BOOT))


def test_what_fits_is_sent_as_it_is_and_what_does_not_is_compressed():
    small = user_data(boot_script(spec(), BOOT))
    assert small.startswith(b"#!/bin/bash\n")
    large = user_data(boot_script(spec(command="echo " + "x" * USER_DATA_LIMIT), BOOT))
    assert len(large) <= USER_DATA_LIMIT
    assert gzip.decompress(large).startswith(b"#!/bin/bash\n")


def test_what_fits_in_no_way_is_told_in_figures():
    noise = base64.b64encode(random.Random(7).randbytes(30_000)).decode()
    script = boot_script(spec(command=noise), BOOT)
    assert user_data(script) is None
    assert "16,384" in str(too_long(script))


def test_the_form_is_a_curl_config_without_its_key():
    assert FORM.curl_config == 'form-string = "policy=a\\"b\\\\c"\nform-string = "x-amz-signature=00"\n'


def test_comments_stay_at_home():
    assert without_comments("# a\nb\n\n  # c\nd # e\n") == "b\nd # e\n"


def test_the_guest_program_leaves_room_for_the_job():
    script = boot_script(spec(), BOOT)
    assert len(script.encode()) < 13_500
    assert "boot.sh" not in script


def test_hands_is_python_that_old_images_run():
    import ast

    ast.parse(guest("hands.py"), feature_version=(3, 7))
