"""The files of `infra/`: what can be checked of them without a cluster."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
RECIPES = sorted(path for path in INFRA.rglob("*") if path.is_file() and path.suffix != ".md")
SCRIPTS = [path for path in RECIPES if path.suffix in (".sh", ".sbatch")]
names = lambda path: str(path.relative_to(INFRA))  # noqa: E731


def program(name: str) -> str:
    """Of this environment or of the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def read(name: str) -> dict:
    return yaml.safe_load((INFRA / name).read_text())


@pytest.mark.parametrize("path", RECIPES, ids=names)
def test_every_recipe_begins_with_a_comment_and_is_in_the_readme(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#!")]
    assert lines[0].startswith("# ") and len(lines[0]) > 20
    assert f"`{names(path)}`" in (INFRA / "README.md").read_text()


@pytest.mark.parametrize("path", [p for p in RECIPES if p.name not in ("basic_auth.ini",)], ids=names)
def test_the_comment_has_the_command_that_uses_the_file(path):
    comment = "\n".join(line for line in path.read_text().splitlines()[:12] if line.startswith("#"))
    assert re.search(rf"^#   .*{re.escape(f'infra/{names(path)}')}", comment, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=names)
def test_bash_can_read_every_script(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=names)
def test_shellcheck_has_nothing_to_say(path):
    done = subprocess.run([program("shellcheck"), path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_has_nothing_to_say_about_the_image():
    done = subprocess.run([program("hadolint"), INFRA / "image/Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_is_not_run_by_root_and_copies_only_what_exists():
    lines = (INFRA / "image/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 1000"
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)


def test_ray_takes_the_cloud_recipe():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("cloud/aws.yaml"))
    validate_config(config)
    assert config["available_node_types"]["spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in config["available_node_types"]["head"]["node_config"]


def test_every_ray_of_the_cloud_recipe_asks_for_the_token():
    config = read("cloud/aws.yaml")
    starts = [line for name in ("head", "worker") for line in config[f"{name}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token ~/env/bin/ray start" in line for line in starts)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def pods() -> list[tuple[str, dict]]:
    cluster = read("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    groups = [("head", cluster["headGroupSpec"]), *((group["groupName"], group) for group in cluster["workerGroupSpecs"])]
    return [(name, group["template"]) for name, group in groups]


@pytest.mark.parametrize("name, template", pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_kubernetes_takes_the_pods_of_the_rayjob(name, template):
    validate = pytest.importorskip("kubernetes_validate").validate
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
    validate(pod, "1.33", strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_rayjob_asks_for_the_token_and_shares_its_storage():
    spec = read("kuberay/rayjob.yaml")["spec"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "trilemma-ray"}
    folder = spec["entrypoint"].split()[1]
    for _, template in pods():
        (container,) = template["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        assert folder.startswith(f"{mount['mountPath']}/")


def test_the_command_of_the_rayjob_is_understood(tmp_path):
    """By study.sh and the study, up to the cluster that is not there."""
    line = read("kuberay/rayjob.yaml")["spec"]["entrypoint"].replace("/runs/trilemma", str(tmp_path / "runs"))
    words = ["bash", "-c", line.replace("http://MLFLOW:5000", "http://127.0.0.1:9")]  # Ray gives it to a shell, too
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "no MLflow server answers" in done.stderr, done.stdout + done.stderr


def test_study_sh_goes_on_with_the_study_in_its_folder(tmp_path):
    (tmp_path / "runs/crl_tradeoff-1").mkdir(parents=True)
    (tmp_path / "runs/crl_tradeoff-1/plan.json").write_text("{}")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = [ROOT / "infra/study.sh", tmp_path / "runs", "studies/crl_tradeoff.py", "--address", "auto", "--", "--trials", "5"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "crl_tradeoff-1/plan.json is not a plan" in done.stderr, done.stdout + done.stderr


def test_the_mlflow_containers_get_their_secrets_as_files():
    compose = read("mlflow/compose.yaml")
    assert all("/secrets/" in secret["file"] for secret in compose["secrets"].values())
    wanted = set(re.findall(r"\(secret (\w+)\)", (INFRA / "mlflow/serve.sh").read_text()))
    assert wanted == set(compose["secrets"]) == set(compose["services"]["mlflow"]["secrets"])
    for service in compose["services"].values():
        assert not [name for name in service["environment"] if "PASSWORD" in name and not name.endswith("_FILE")]
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["mlflow"]["ports"])


@pytest.mark.parametrize("mode, content, complaint", [
    (0o644, "x", "can be read by others"), (0o600, "", "is missing or empty"), (None, "", "is missing or empty"),
])  # fmt: skip
def test_serve_sh_refuses_a_secret_that_is_none(tmp_path, mode, content, complaint):
    for name in ("db_password", "admin_password", "flask_key"):
        (tmp_path / name).write_text("hidden")
        (tmp_path / name).chmod(0o600)
    last = tmp_path / "admin_password"
    last.write_text(content)
    last.chmod(mode) if mode else last.unlink()
    done = subprocess.run([INFRA / "mlflow/serve.sh", tmp_path, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and complaint in done.stderr and "hidden" not in done.stdout + done.stderr


def test_a_login_in_the_uri_of_a_tracking_server_is_refused_and_not_shown():
    words = [sys.executable, ROOT / "studies/crl_tradeoff.py", "--dry-run", "--tracking-uri", "http://ann:hid/den@127.0.0.1:9"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "hid" not in done.stderr + done.stdout
    words[-1] = "http://ann:hidden@127.0.0.1:9"
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "MLFLOW_TRACKING_PASSWORD" in done.stderr and "hidden" not in done.stderr
