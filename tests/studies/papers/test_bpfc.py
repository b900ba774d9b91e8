"""The tables of the BPFC paper are legal in both presets, and have the paper's recipes, attacks and numbers."""

import pytest
import torch

from core.attacks.named import attacks_of
from core.bound import TARGET, Trained, bind
from core.config import TrialConfig
from core.data import Images
from core.evaluation.black_box import transfer_accuracy
from core.recipes import RECIPES
from studies.papers.bpfc import EPSILON, PAPER, passes
from trainables.cost.passes import Sizes
from trainables.papers.networks import networks_of

torch.set_num_threads(1)

ITEMS = {item.name: item for item in PAPER.items}
CASES = [(item, preset) for item in ITEMS for preset in ("dev", "paper")]
OF_IMAGES_AND_EVALUATION = ("dataset", "seed", "split", "judge.", "selection")


def networks(item: str, preset: str):
    own = ITEMS[item].presets[preset]
    return networks_of(ITEMS[item], own, None, {}, (), own.seeds)


def dataset(item: str) -> str:
    return "cifar10" if item == "table1" else item.partition("_")[2]


@pytest.mark.parametrize(("item", "preset"), CASES)
def test_every_network_of_every_preset_is_legal_and_on_its_data_set(item, preset):
    found = networks(item, preset)
    assert found.labels() == list(ITEMS[item].rows)
    for config in (*found.rows.values(), *found.sources.values()):
        assert TrialConfig.of(config.params()) == config and config.dataset == dataset(item)
        assert config.params()["split"] == "official" and (preset == "dev") == (config.pool > 0)
    assert {(c.judge.part, c.judge.images, c.judge.epsilon) for c in found.rows.values()} == {("test", 0, EPSILON[dataset(item)])}


def training(params):
    return {name: value for name, value in params.items() if not name.startswith(OF_IMAGES_AND_EVALUATION)}


@pytest.mark.parametrize("item", ITEMS)
def test_the_paper_preset_trains_with_the_recipes_of_bpfc_and_ordinary_training_without_the_regularizer(item):
    recipe = RECIPES["bpfc" if dataset(item) == "cifar10" else f"bpfc_{dataset(item)}"]
    found = {cell.row: config.params() for cell, config in networks(item, "paper").rows.items()}
    assert training(found["BPFC"]) == training(TrialConfig.of(recipe).params())
    normal = {name: value for name, value in recipe.items() if not name.startswith("regularizer")}
    assert training(found["NT"]) == training(TrialConfig.of(normal).params())
    same = ("net", "optimizer.", "batch_size", "epochs", "normalize")
    for row, params in found.items():
        differ = {name for name in params if name.startswith(same) and params[name] != found["NT"][name]}
        assert differ <= ({"optimizer.weight_decay"} if row == "Mixup" else set())
    assert found["Mixup"]["optimizer.weight_decay"] == 1e-4 and found["Mixup"]["augmentation"] == "mixup"
    if dataset(item) == "cifar10":
        assert training(found["Mixup"]) == training(TrialConfig.of(RECIPES["mixup"]).params())
        assert all(params["net.relu_before_addition"] for params in found.values())


@pytest.mark.parametrize("item", ITEMS)
def test_adversarial_training_has_the_radius_and_the_step_size_of_the_data_set(item):
    epsilon = EPSILON[dataset(item)]
    found = {cell.row: config.params() for cell, config in networks(item, "paper").rows.items()}
    assert {found[row]["perturbation.epsilon"] for row in ("FGSM-AT", "RSS-AT", "PGD-AT")} == {epsilon}
    size, steps = (2 / 255, 7) if dataset(item) == "cifar10" else (0.01, 40)
    assert (found["PGD-AT"]["perturbation.step_size"], found["PGD-AT"]["perturbation.steps"]) == (size, steps)
    assert size * steps >= epsilon
    assert float(found["RSS-AT"]["regularizer.random_share"]) * epsilon == pytest.approx(size)


@pytest.mark.parametrize("item", ITEMS)
def test_the_paper_preset_chooses_the_epoch_as_the_authors_do_on_images_that_are_used_for_nothing_else(item):
    steps, last = (7, 0) if dataset(item) == "cifar10" else (40, 30)
    found = networks(item, "paper")
    for config in (*found.rows.values(), *found.sources.values()):
        choice = config.selection
        assert (choice.attack, choice.last, choice.epsilon) == (f"ifgsm:steps={steps}", last, EPSILON[dataset(item)])
        assert config.split.val == 10000 and choice.images == 9000


@pytest.mark.parametrize(("item", "preset"), CASES)
def test_every_column_is_a_metric_of_the_attacks_or_of_the_measurement(item, preset):
    own, found = ITEMS[item], networks(item, preset)
    attacks = {f"robust_accuracy/{name}" for name in attacks_of(found.common.judge.attacks)}
    measured = {"white_box", *(f"black_box/{cell.row}" for cell in found.sources)} if own.measurement else set()
    assert set(own.columns.values()) <= {"accuracy"} | attacks | measured
    assert own.measurement is None or measured <= set(own.columns.values())
    assert set(own.percent) == set(own.columns)


@pytest.mark.parametrize(("item", "preset"), [(item, preset) for item, preset in CASES if item.startswith("table3")])
def test_sources_are_another_architecture_and_the_paper_s_own_with_seeds_of_their_own(item, preset):
    found = networks(item, preset)
    kinds = {cell.row: type(config.net).__name__ for cell, config in found.sources.items()}
    cifar = {"vgg19": "VGG19", "resnet18": "ResNet18"}
    assert kinds == (cifar if dataset(item) == "cifar10" else {"net_a": "NetA", "mlenet": "MLeNet"})
    seeds = [config.seed for config in (*found.sources.values(), next(iter(found.rows.values())))]
    assert len(set(seeds)) == 3
    for config in found.sources.values():
        params = config.params()
        assert (params["perturbation"], params["regularizer"], params["augmentation"] == "mixup") == ("none", "none", False)
        assert config.epochs == found.common.epochs and config.batch_size == found.common.batch_size


@pytest.mark.parametrize("item", ITEMS)
def test_published_numbers_are_those_of_the_paper_and_belong_to_rows_and_columns(item):
    own = ITEMS[item]
    assert own.published.keys() == own.rows.keys()
    published = [heading for heading in own.columns if heading != "itself" and (heading != "Clean" or "table3" not in item)]
    assert all(list(numbers) == published for numbers in own.published.values())
    assert "\n" not in own.differs and own.differs.endswith(".")


def test_some_published_numbers_read_in_the_paper():
    table = {name: item.published for name, item in ITEMS.items()}
    bpfc = {"Clean": 82.4, "FGSM": 50.1, "I-FGSM-7": 44.1, "PGD-7": 41.7, "PGD-20": 35.7, "PGD-1000": 34.4}
    assert table["table1"]["BPFC"] == bpfc and table["table1"]["A3: l1 norm"]["PGD-1000"] == 35.9
    assert table["table2_fashion_mnist"]["PGD-AT"] == {"Clean": 87.5, "PGD-1000": 79.1}
    assert table["table2_mnist"]["BPFC"] == {"Clean": 99.1, "PGD-1000": 85.7}
    assert table["table3_cifar10"]["NT"] == {"VGG19": 36.11, "ResNet18": 15.97}
    assert table["table3_fashion_mnist"]["Mixup"] == {"Net-A": 54.65, "M-LeNet": 66.31}
    assert table["table3_mnist"]["FGSM-AT"] == {"Net-A": 87.99, "M-LeNet": 85.68}


def test_passes_are_those_of_the_measurement():
    counts: list[tuple[int, bool]] = []
    images = Images(torch.randint(256, (200, 1, 8, 8), dtype=torch.uint8), torch.arange(200) % 10, 10)

    def network(seed: int) -> Trained:
        config = TrialConfig.of({"net.width": 2, "net.hidden": 4, "judge.images": 0, "judge.part": "test", "seed": seed})
        return Trained(config, bind(config, images, torch.device("cpu")))

    parties = {TARGET: network(1), "a": network(2), "b": network(3)}
    parties[TARGET].bound.net.register_forward_hook(lambda _, inputs, out: counts.append((len(inputs[0]), inputs[0].requires_grad)))
    transfer_accuracy(parties, images)
    judged = len(parties[TARGET].config.parts(images).test)
    expected = passes(Sizes(pool=200, members=50, judged=judged, target=100), {})
    assert expected.backward == sum(count for count, gradient in counts if gradient) == judged
    assert expected.forward == sum(count for count, _ in counts)
