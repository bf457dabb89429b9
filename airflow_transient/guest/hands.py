# What the boot script cannot do in bash: standard library only, Python 3.7 on (every cloud-init image has one).
import hashlib
import hmac
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

IMDS = "http://169.254.169.254/latest/"


def ask(url, data=None, method="GET", **headers):
    request = urllib.request.Request(url, data, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
    return urllib.request.urlopen(request, timeout=30).read()


def metadata(path):
    token = ask(IMDS + "api/token", b"", "PUT", X_aws_ec2_metadata_token_ttl_seconds="300").decode()
    return ask(IMDS + "meta-data/" + path, X_aws_ec2_metadata_token=token).decode()


def post(url, form, key, path):
    # The form is a curl config: form-string = "name=value", quoted as JSON quotes.
    fields = [json.loads(line.split("=", 1)[1]).split("=", 1) for line in open(form)] + [["key", key]]
    edge = uuid.uuid4().hex
    head = "".join('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (edge, n, v) for n, v in fields)
    head += '--%s\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' % edge
    with open(path, "rb") as body:
        data = head.encode() + body.read() + ("\r\n--%s--\r\n" % edge).encode()
    ask(url, data, "POST", Content_Type="multipart/form-data; boundary=" + edge)


def secrets(wanted, env, region):
    with open(wanted) as lines, open(env, "a") as out:
        for name, reference in json.load(lines).items():
            out.write("export %s=%s\n" % (name, shlex.quote(secret(reference, region))))


def secret(reference, region):
    parts = reference.split(":")
    arn = reference.startswith("arn:")
    where = parts[3] if arn else region
    if arn and parts[2] == "secretsmanager":
        answer = call("secretsmanager", "GetSecretValue", where, SecretId=reference)
        return answer["SecretString"]
    # SSM takes a parameter's name, or its ARN when another account shares it.
    return call("ssm", "GetParameter", where, Name=reference, WithDecryption=True)["Parameter"]["Value"]


def call(service, action, region, **arguments):
    for way in (with_cli, with_boto3, with_role):
        answer = way(service, action, region, arguments)
        if answer is not None:
            return answer


def run(argv, stdin, what):
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode:
        sys.exit("%s: %s" % (what, " ".join((done.stderr + done.stdout).split())[:250]))
    return json.loads(done.stdout)


def with_cli(service, action, region, arguments):
    if not shutil.which("aws"):
        return None
    verb = {"GetSecretValue": "get-secret-value", "GetParameter": "get-parameter"}[action]
    asked = ["--cli-input-json", json.dumps(arguments), "--region", region, "--output", "json"]
    return run(["aws", service, verb, *asked], "", action)


def with_boto3(service, action, region, arguments):
    try:
        import boto3
    except ImportError:
        return None
    client = boto3.client(service, region_name=region)
    verb = {"GetSecretValue": client.get_secret_value} if service == "secretsmanager" else {}
    try:
        return verb.get(action, getattr(client, "get_parameter", None))(**arguments)
    except Exception as error:
        sys.exit("%s: %s" % (action, error))


def with_role(service, action, region, arguments):
    # Signature version 4 by hand: curl's own (before 8) leaves the session token out of what it signs.
    role = metadata("iam/security-credentials/").split()[0]
    keys = json.loads(metadata("iam/security-credentials/" + role))
    url = os.environ.get("AWS_ENDPOINT_URL") or "https://%s.%s.amazonaws.com" % (service, region)
    body = json.dumps(arguments).encode()
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": url.split("//")[1],
        "x-amz-date": moment,
        "x-amz-security-token": keys["Token"],
        "x-amz-target": {"ssm": "AmazonSSM.", "secretsmanager": "secretsmanager."}[service] + action,
    }
    names, digest = ";".join(headers), hashlib.sha256(body).hexdigest()
    canonical = "POST\n/\n\n%s\n%s\n%s" % ("".join("%s:%s\n" % pair for pair in headers.items()), names, digest)
    scope = "%s/%s/%s/aws4_request" % (moment[:8], region, service)
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    for part in [*scope.split("/"), "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (moment, scope, hashed)]:
        key = hmac.new(key, part.encode(), "sha256").digest()
    signed = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s"
    headers["authorization"] = signed % (keys["AccessKeyId"], scope, names, key.hex())
    try:
        return json.loads(ask(url + "/", body, "POST", **headers))
    except urllib.error.HTTPError as error:
        sys.exit("%s: %s" % (action, error.read(300).decode(errors="replace")))


if __name__ == "__main__":
    answer = {"metadata": metadata, "post": post, "secrets": secrets}[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(answer or "")
