"""Files, servers and stored studies that cannot be used: exit code 2 within seconds, one line, and nothing created or changed."""

import pytest
from bad_places import Rows, assert_refused, places, web_server

from studies.crl_tradeoff import STUDY
from trainables.commands import run
from trainables.commands.study import main

ROWS: Rows = {
    # parquet
    "parquet folder missing": (
        ["--dataset", "parquet:nowhere"],
        ["no file", "nowhere/train.parquet", "DIR/test.parquet"],
    ),
    "parquet test part missing": (["--dataset", "{parquet}/no_test"], ["no file", "no_test/test.parquet"]),
    "parquet corrupt": (["--dataset", "{parquet}/corrupt"], ["cannot read", "corrupt/train.parquet"]),
    "parquet truncated": (["--dataset", "{parquet}/truncated"], ["cannot read", "truncated/train.parquet"]),
    "parquet without images": (["--dataset", "{parquet}/no_image"], ["columns picture, label", "expected img"]),
    "parquet without labels": (["--dataset", "{parquet}/no_label"], ["columns img", "label"]),
    "parquet of paths": (["--dataset", "{parquet}/not_struct"], ["column img is string", "struct", "img.bytes"]),
    "parquet struct of paths": (
        ["--dataset", "{parquet}/no_bytes"],
        ["column img is struct<path: string>", "img.bytes"],
    ),
    "parquet text for bytes": (["--dataset", "{parquet}/text_bytes"], ["column img is struct<bytes: string>"]),
    "parquet labels in words": (["--dataset", "{parquet}/text_label"], ["column label is string", "expected integers"]),
    "parquet label missing": (["--dataset", "{parquet}/null_label"], ["1 labels are missing"]),
    "parquet label gap": (["--dataset", "{parquet}/label_gap"], ["no image has label", "without gaps"]),
    "parquet label negative": (["--dataset", "{parquet}/label_negative"], ["negative", "train.parquet row"]),
    "parquet label huge": (["--dataset", "{parquet}/label_huge"], ["too large", "train.parquet row"]),
    "parquet one class": (
        ["--dataset", "{parquet}/one_class"],
        ["40 images have the same label", "at least 2 classes"],
    ),
    "parquet few of a class": (["--dataset", "{parquet}/few"], ["class 1 has 4 images", "at least 8"]),
    "parquet without rows": (["--dataset", "{parquet}/empty"], ["empty/train.parquet has no rows"]),
    "parquet different sizes": (["--dataset", "{parquet}/sizes"], ["sizes/test.parquet row 5", "9x8", "8x8"]),
    "parquet different modes": (["--dataset", "{parquet}/modes"], ["train.parquet row 31", "8x8 RGB", "8x8 grey"]),
    "parquet not an image": (["--dataset", "{parquet}/undecodable"], ["row 7: the image cannot be decoded"]),
    "parquet half an image": (["--dataset", "{parquet}/broken_image"], ["row 7: the image cannot be decoded"]),
    "parquet no image": (["--dataset", "{parquet}/null_image"], ["row 3: the image is missing (null)"]),
    "parquet program for an image": (["--dataset", "{parquet}/postscript"], ["row 2: the image cannot be decoded"]),
    "parquet image too large": (["--dataset", "{parquet}/large"], ["row 4: image is 1025x8, at most 1024 a side"]),
    "parquet image bomb": (
        ["--dataset", "{parquet}/bomb"],
        ["row 6: the image cannot be decoded", "decompression bomb"],
    ),
    # downloads
    "data set neither there nor to be had": (
        ["--dataset", "mnist", "--data-dir", "sets"],
        ["cannot read MNIST from sets"],
    ),
    "archive neither there nor to be had": (["--dataset", "cifar10"], ["cannot read CIFAR10 from data or download it"]),
    "file where data sets should be": (["--dataset", "svhn", "--data-dir", "{file}"], ["cannot read SVHN from {file}"]),
    # storage
    "storage is a file": (["--storage", "{file}"], ["cannot write to --storage {file}"]),
    "storage below a file": (["--storage", "{file}/runs"], ["cannot write to --storage {file}/runs"]),
    "storage nobody can write": (["--storage", "/proc/trilemma"], ["cannot write to --storage /proc/trilemma"]),
    "storage URI nobody can write": (
        ["--storage", "file:///proc/trilemma"],
        ["cannot write to --storage /proc/trilemma"],
    ),
    "storage of unknown scheme": (["--storage", "gopher://x/y"], ["cannot use --storage gopher://x/y"]),
    "storage with keys": (
        ["--storage", "s3://KEY:secret@bucket/runs?region=x"],
        ["--storage s3://***@bucket/runs?region=x: put the keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "~/.aws"],
    ),
    "storage with a key as an option": (["--storage", "abfs://c@a/x?account_key=secret"], ["abfs://c@a/x?account_key=***"]),
    "resume in a storage with keys": (["--resume", "mine", "--storage", "s3://K:secret@b/r"], ["s3://***@b/r: put the keys"]),
    # tracking
    "tracking in a folder": (["--tracking-uri", "mlruns"], ["--tracking-uri 'mlruns' is none of: sqlite:///FILE"]),
    "tracking of unknown scheme": (
        ["--tracking-uri", "ftp://host/x"],
        ["'ftp://host/x' is none of", "http(s)://HOST:PORT"],
    ),
    "tracking in memory": (["--tracking-uri", "sqlite://"], ["'sqlite://' is none of: sqlite:///FILE"]),
    "tracking at a broken address": (["--tracking-uri", "http://[::1"], ["'http://[::1' is none of"]),
    "tracking at a broken port": (["--tracking-uri", "postgresql://u:p@host:a/x"], ["is none of"]),
    "tracking with a blank": (
        ["--tracking-uri", "http://a b"],
        ["no MLflow server answers at --tracking-uri http://a b"],
    ),
    "tracking at a closed port": (["--tracking-uri", "http://{closed}"], ["no MLflow server answers", "refused"]),
    "tracking at a silent port": (["--tracking-uri", "http://{silent}"], ["no MLflow server answers", "timed out"]),
    "tracking at an SSH port": (["--tracking-uri", "http://{garbled}"], ["no MLflow server answers"]),
    "tracking at another server": (
        ["--tracking-uri", "{web}"],
        ["the server at --tracking-uri {web} is not an MLflow"],
    ),
    "tracking at a server without it": (["--tracking-uri", "{gone}"], ["--tracking-uri {gone} answers 404"]),
    "tracking in a text file": (["--tracking-uri", "sqlite:///{text_db}"], ["{text_db} is not a writable SQLite file"]),
    "tracking in a folder's place": (["--tracking-uri", "sqlite:///{places}"], ["{places} is not a writable SQLite file"]),
    "tracking in another database": (
        ["--tracking-uri", "sqlite:///{songs_db}"],
        ["{songs_db} is a database of another program than MLflow"],
    ),
    "tracking in no folder": (["--tracking-uri", "sqlite:///no/where.db"], ["cannot create a file in", "no"]),
    "tracking below a file": (["--tracking-uri", "sqlite:///{file}/x.db"], ["cannot create a file in {file}"]),
    "tracking with a token": (["--tracking-uri", "http://h/?token=secret"], ["http://h/?token=***", "MLFLOW_TRACKING_TOKEN"]),
    "tracking in no database": (
        ["--tracking-uri", "postgresql://me:secret@{closed}/x"],
        ["no database answers at", "{closed}"],
    ),
    # cluster
    "address of nothing": (["--address", "somewhere"], ["--address 'somewhere' is not HOST:PORT"]),
    "address with a broken port": (["--address", "localhost:port"], ["--address 'localhost:port' is not HOST:PORT"]),
    "address with a port too high": (
        ["--address", "localhost:99999"],
        ["--address 'localhost:99999' is not HOST:PORT"],
    ),
    "address half in brackets": (["--address", "[::1"], ["--address '[::1' is not HOST:PORT"]),
    "address of the web": (["--address", "http://{closed}"], ["is not HOST:PORT or auto"]),
    "address of no host": (["--address", "a..b:6379"], ["no Ray cluster answers at --address a..b:6379"]),
    "address at a closed port": (
        ["--address", "{closed}"],
        ["no Ray cluster answers at --address {closed}", "ray start"],
    ),
    "client address at a closed port": (
        ["--address", "ray://{closed}"],
        ["Ray Client is not supported", "run on the head node with --address auto"],
    ),
    # resume
    "resume of nothing": (["--resume", "crl"], ["no study 'crl' in --storage runs, expected one of: none"]),
    "resume of no name": (["--resume", ""], ["no study ''"]),
    "resume of an unknown study": (
        ["--resume", "mime", "--storage", "{runs}"],
        ["no study 'mime'", "mine, no_data, null, odd, older, other"],
    ),
    "resume from outside": (["--resume", "../runs/mine", "--storage", "{runs}"], ["no study '../runs/mine'"]),
    "resume of the whole storage": (["--resume", ".", "--storage", "{runs}/mine"], ["no study '.'"]),
    "resume of a folder without plan": (["--resume", "empty", "--storage", "{runs}"], ["no study 'empty'"]),
    "resume in a file": (["--resume", "mine", "--storage", "{file}"], ["no study 'mine' in --storage {file}"]),
    "resume in an unknown scheme": (
        ["--resume", "mine", "--storage", "gopher://x"],
        ["cannot use --storage gopher://x"],
    ),
    "resume of another study": (
        ["--resume", "other", "--storage", "{runs}"],
        ["a study of other", "python studies/other.py"],
    ),
    "resume with other trials": (["--resume", "mine", "--storage", "{runs}", "--trials", "9"], ["drop --trials"]),
    "resume with other settings": (
        ["--resume", "mine", "--storage", "{runs}", "--set", "epochs=2", "--seed", "4"],
        ["continues the study as it was planned", "drop --set, --seed"],
    ),
    "resume of half a plan": (["--resume", "corrupt", "--storage", "{runs}"], ["corrupt/plan.json is not a plan"]),
    "resume of bytes": (["--resume", "binary", "--storage", "{runs}"], ["binary/plan.json is not a plan"]),
    "resume of a list": (["--resume", "list", "--storage", "{runs}"], ["list/plan.json is not a plan"]),
    "resume of an incomplete plan": (["--resume", "lacking", "--storage", "{runs}"], ["lacking/plan.json", "sampler"]),
    "resume of another version": (["--resume", "older", "--storage", "{runs}"], ["older/plan.json", "'sharpness'"]),
    "resume of a renamed study": (
        ["--resume", "renamed", "--storage", "{runs}"],
        ["{runs}/renamed contains the study 'old'", "rename the folder"],
    ),
    "resume of a plan that names another folder": (["--resume", "outside", "--storage", "{runs}"], ["'../mine' is not the name"]),
    "resume of a plan whose study is a path": (["--resume", "up", "--storage", "{runs}"], ["'../crl_tradeoff' is not the name"]),
    "resume of an empty plan": (["--resume", "zero", "--storage", "{runs}"], ["zero/plan.json is not a plan", "it is empty"]),
    "resume of nothing but null": (["--resume", "null", "--storage", "{runs}"], ["null/plan.json is not a plan"]),
    "resume of a plan without its data": (["--resume", "no_data", "--storage", "{runs}"], ["not a plan of this version", "data"]),
    "resume of a plan with a word for a number": (["--resume", "odd", "--storage", "{runs}"], ["odd/plan.json", "trials"]),
    "resume where tracking is gone": (
        ["--resume", "mine", "--storage", "{runs}", "--tracking-uri", "http://{closed}"],
        ["no MLflow server answers"],
    ),
    # several errors: cheap checks come first, and nothing is downloaded for a command line that is refused
    "too few trials of what would be downloaded": (
        ["--dataset", "cifar10", "--trials", "2"],
        ["--trials 2 is too few"],
    ),
    "dry runs are checked too": (["--dry-run", "--storage", "{file}"], ["cannot write to --storage {file}"]),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """All places, by the name that `ROWS` uses."""
    with places(tmp_path_factory.mktemp("places")) as named:
        yield named


@pytest.mark.parametrize("case", ROWS)
def test_an_unusable_place_is_refused_in_one_line_and_nothing_is_created(case, bad, tmp_path, monkeypatch, capfd):
    assert_refused(STUDY, *ROWS[case], bad, tmp_path, monkeypatch, capfd)


def test_more_than_seventy_different_command_lines_are_tried():
    assert len({tuple(argv) for argv, _ in ROWS.values()}) == len(ROWS) > 70


def test_the_same_places_without_their_flaws_are_accepted(bad, tmp_path, monkeypatch):
    """The rows fail for the reason that they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_run", lambda *args: 0)
    for argv in ([], ["--dataset", f"{bad['parquet']}/good"], ["--resume", "mine", "--storage", str(bad["runs"])],
                 ["--storage", f"file://{tmp_path}/a%20b"]):  # fmt: skip
        with pytest.raises(SystemExit) as exit_info:
            main(STUDY, argv)
        assert exit_info.value.code == 0, argv
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_healthy_but_not_mlflow_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with web_server(b"OK") as web, pytest.raises(SystemExit) as exit_info:
        main(STUDY, ["--tracking-uri", web])
    assert exit_info.value.code == 2 and f"--tracking-uri {web} cannot be read" in capsys.readouterr().err
