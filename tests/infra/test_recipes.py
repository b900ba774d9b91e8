"""Checks of the files of `infra/` that need no cluster."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from environments import environment
from study_runs import CRL, ROOT, InProcess

INFRA = ROOT / "infra"
RECIPES = sorted(path for path in INFRA.rglob("*") if path.is_file() and path.suffix != ".md")
SCRIPTS = [path for path in RECIPES if path.suffix in (".sh", ".sbatch")]


def name_of(path: Path) -> str:
    """Path of a recipe relative to `infra/`."""
    return str(path.relative_to(INFRA))


def program(name: str) -> str:
    """Path of a program; skips the test if it is not installed."""
    path = shutil.which(name, path=environment()["PATH"])
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def read_yaml(name: str) -> dict:
    """Content of a YAML file."""
    return yaml.safe_load((INFRA / name).read_text())


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_every_recipe_begins_with_a_comment_and_is_listed_in_the_readme(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#!")]
    assert lines[0].startswith("# ") and len(lines[0]) > 20
    assert f"`{name_of(path)}`" in (INFRA / "README.md").read_text()


@pytest.mark.parametrize("path", [p for p in RECIPES if p.name not in ("basic_auth.ini",)], ids=name_of)
def test_the_comment_of_a_recipe_contains_the_command_that_uses_it(path):
    comment = "\n".join(line for line in path.read_text().splitlines()[:12] if line.startswith("#"))
    assert re.search(rf"^#   .*{re.escape(f'infra/{name_of(path)}')}", comment, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_bash_can_parse_every_script(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_shellcheck_reports_nothing(path):
    done = subprocess.run([program("shellcheck"), path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_reports_nothing_about_the_image():
    done = subprocess.run([program("hadolint"), INFRA / "image/Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_does_not_run_as_root_and_copies_existing_files_only():
    lines = (INFRA / "image/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 1000"
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)


def test_ray_accepts_the_cloud_recipe():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read_yaml("cloud/aws.yaml"))
    validate_config(config)
    assert config["available_node_types"]["spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in config["available_node_types"]["head"]["node_config"]


def test_ray_requires_the_token_on_every_node_of_the_cloud_recipe():
    config = read_yaml("cloud/aws.yaml")
    starts = [line for name in ("head", "worker") for line in config[f"{name}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token ~/env/bin/ray start" in line for line in starts)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def pods() -> list[tuple[str, dict]]:
    """Name and template of each pod of the RayJob."""
    cluster = read_yaml("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    groups = [("head", cluster["headGroupSpec"]), *((group["groupName"], group) for group in cluster["workerGroupSpecs"])]
    return [(name, group["template"]) for name, group in groups]


@pytest.mark.parametrize("name, template", pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_pods_of_the_rayjob_match_the_schema_of_kubernetes(name, template):
    validate = pytest.importorskip("kubernetes_validate").validate
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
    validate(pod, "1.33", strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_rayjob_requires_the_token_and_its_pods_share_the_storage():
    spec = read_yaml("kuberay/rayjob.yaml")["spec"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "trilemma-ray"}
    folder = spec["entrypoint"].split()[1]
    for _, template in pods():
        (container,) = template["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        assert folder.startswith(f"{mount['mountPath']}/")


@pytest.mark.thorough
def test_the_entrypoint_of_the_rayjob_is_valid_up_to_the_tracking_server(tmp_path):
    line = read_yaml("kuberay/rayjob.yaml")["spec"]["entrypoint"].replace("/runs/trilemma", str(tmp_path / "runs"))
    command = ["bash", "-c", line.replace("http://MLFLOW:5000", "http://127.0.0.1:9")]  # Ray runs it in a shell, too
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "no MLflow server answers" in done.stderr, done.stdout + done.stderr


@pytest.mark.thorough
def test_study_sh_resumes_the_study_in_its_folder(tmp_path):
    (tmp_path / "runs/crl_tradeoff-1").mkdir(parents=True)
    (tmp_path / "runs/crl_tradeoff-1/plan.json").write_text("{}")
    command = [ROOT / "infra/study.sh", tmp_path / "runs", CRL, "--address", "auto", "--", "--trials", "5"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "crl_tradeoff-1/plan.json is not a plan" in done.stderr, done.stdout + done.stderr


def test_the_mlflow_containers_receive_their_secrets_as_files():
    compose = read_yaml("mlflow/compose.yaml")
    assert all("/secrets/" in secret["file"] for secret in compose["secrets"].values())
    wanted = set(re.findall(r"\(secret (\w+)\)", (INFRA / "mlflow/serve.sh").read_text()))
    assert wanted == set(compose["secrets"]) == set(compose["services"]["mlflow"]["secrets"])
    for service in compose["services"].values():
        assert not [name for name in service["environment"] if "PASSWORD" in name and not name.endswith("_FILE")]
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["mlflow"]["ports"])


@pytest.mark.parametrize("mode, content, complaint", [
    (0o644, "x", "can be read by others"), (0o600, "", "is missing or empty"), (None, "", "is missing or empty"),
])  # fmt: skip
def test_serve_sh_rejects_a_secret_that_is_missing_empty_or_readable_by_others(tmp_path, mode, content, complaint):
    for name in ("db_password", "admin_password", "flask_key"):
        (tmp_path / name).write_text("hidden")
        (tmp_path / name).chmod(0o600)
    secret = tmp_path / "admin_password"
    secret.write_text(content)
    secret.chmod(mode) if mode else secret.unlink()
    done = subprocess.run([INFRA / "mlflow/serve.sh", tmp_path, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and complaint in done.stderr and "hidden" not in done.stdout + done.stderr


def test_a_login_in_the_tracking_uri_is_rejected_and_not_printed(tmp_path):
    run = InProcess(template=tmp_path)
    done = run(tmp_path, "--dry-run", "--tracking-uri", "http://ann:hid/den@127.0.0.1:9")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "hid" not in done.stderr + done.stdout
    done = run(tmp_path, "--dry-run", "--tracking-uri", "http://ann:hidden@127.0.0.1:9")
    assert done.returncode == 2 and "MLFLOW_TRACKING_PASSWORD" in done.stderr and "hidden" not in done.stderr
