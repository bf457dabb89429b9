"""From a spec to the user data that runs the job, reports and ends the machine. Same input, same bytes.

Values are quoted for the shell by `shlex`; the program itself is guest/boot.sh and guest/hands.py, unchanged but for
their whole-line comments. Nothing secret may come in here: anyone with ec2:DescribeInstanceAttribute reads user data.
"""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from airflow_transient.core.ec2.spec import UPLOAD_GRACE, Ec2Spec
from airflow_transient.errors import SpecError

#: EC2's limit for user data, before base64.
USER_DATA_LIMIT = 16_384


@dataclass(frozen=True)
class ReportForm:
    """A presigned POST: where to send it and its signed fields, good for every key under one prefix."""

    url: str
    fields: Mapping[str, str]
    bucket: str
    prefix: str

    @property
    def curl_config(self) -> str:
        """The fields as a curl config file; `key` varies by object and is given beside it."""
        return "".join(
            f"form-string = {json.dumps(f'{name}={value}')}\n" for name, value in self.fields.items() if name != "key"
        )


@dataclass(frozen=True)
class Boot:
    """What one launch's boot script is told beside its spec."""

    token: str
    nonce: str
    region: str
    form: ReportForm | None = None
    index_offset: int = 0


def boot_script(spec: Ec2Spec, boot: Boot) -> str:
    """The whole script, as text."""
    form = boot.form
    told: dict[str, str | int] = {
        "TOKEN": boot.token,
        "NONCE": boot.nonce,
        "REGION": boot.region,
        "COUNT": spec.count,
        "OFFSET": boot.index_offset,
        "MAX_RUNTIME": int(spec.max_runtime.total_seconds()),
        "HOLD": int(spec.hold_on_failure.total_seconds()),
        "CLEAN": without_comments(guest("clean.sh")) if spec.stays else "",
        "GRACE": int(UPLOAD_GRACE.total_seconds()),
        "FORM_URL": form.url if form else "",
        "BUCKET": form.bucket if form else "",
        "PREFIX": form.prefix if form else "",
        "FORM": form.curl_config if form else "",
        "JOB": job_script(spec),
        "JOB_ENV": "".join(f"export {name}={shlex.quote(text)}\n" for name, text in spec.environment.items()),
        "SECRETS": json.dumps(dict(spec.secrets)) if spec.secrets else "",
        "HANDS": without_comments(guest("hands.py")),
    }
    header = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in told.items())
    return "#!/bin/bash\n" + header + without_comments(guest("boot.sh"))


def job_script(spec: Ec2Spec) -> str:
    """What is executed on the machine: the script as given, or the command under bash."""
    if spec.script is not None:
        return spec.script.replace("\r\n", "\n")
    command = spec.command if isinstance(spec.command, str) else "exec " + shlex.join(spec.command or ())
    return f"#!/bin/bash\n{command}\n"


def guest(name: str) -> str:
    return (resources.files("airflow_transient") / "guest" / name).read_text()


def without_comments(program: str) -> str:
    """User data is short of room: whole-line comments and blank lines stay at home."""
    kept = (line for line in program.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return "\n".join(kept) + "\n"


def user_data(script: str) -> bytes | None:
    """The bytes EC2 takes: raw if they fit, else gzip (cloud-init unpacks it), else None."""
    raw = script.encode()
    for data in (raw, gzip.compress(raw, 9, mtime=0)):
        if len(data) <= USER_DATA_LIMIT:
            return data
    return None


def too_long(script: str) -> SpecError:
    packed = len(gzip.compress(script.encode(), 9, mtime=0))
    return SpecError(
        f"the boot script has {len(script.encode()):,} bytes ({packed:,} compressed) and EC2 takes "
        f"{USER_DATA_LIMIT:,}: give `results`, and it is kept there and fetched at boot, or shorten the job"
    )


def stub_script(spec: Ec2Spec, boot: Boot, script_url: str) -> str:
    """Boots from a script that is too long for user data: fetch it, run it, and end the machine if that fails."""
    note = "the boot script could not be fetched"
    failed = json.dumps({"nonce": boot.nonce, "instance": "", "phase": "end", "cause": "setup", "note": note})
    fetch = "import os,sys,urllib.request as u; sys.stdout.buffer.write(u.urlopen(os.environ['URL']).read())"
    limit = int(spec.lifetime.total_seconds())
    return f"""#!/bin/bash
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
setsid /bin/bash -c 'sleep {limit}; shutdown -h now || poweroff -f' </dev/null >/dev/null 2>&1 &
umask 077
url={shlex.quote(script_url)}
file=/run/transient-boot
for try in 1 2 3 4 5; do
  if command -v curl >/dev/null; then printf 'url = "%s"\\n' "$url" | curl -fsS -m 60 -K - -o $file && got=1 && break
  else URL="$url" python3 -c {shlex.quote(fetch)} >$file && got=1 && break
  fi
  sleep 2
done
[ -n "${{got-}}" ] && exec /bin/bash $file
printf '\\nTRANSIENT %s\\n' {shlex.quote(failed)} | tee /dev/console
shutdown -h now || poweroff -f
"""
