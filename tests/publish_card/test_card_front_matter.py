"""The front matter is what the Hub and its own client understand, whatever a source's card says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, metadata_eval_result
from huggingface_hub.repocard_data import model_index_to_eval_results

from convert.publish.card import front_matter
from convert.publish.card.label import label
from convert.store import AdapterRecord
from tests.hub.server import HubServer
from tests.publish_card.cards import BASE, COMMIT, of_hub

if TYPE_CHECKING:
    from tests.publish_card.cards import Artifacts, Card

# What breaks out of YAML where it is pasted in, or becomes something else when it is read.
NASTY = (
    "no",
    "1e5",
    "0x10",
    "null",
    "~",
    "- a",
    "a: b",
    "a #b",
    "'",
    '"',
    "{a: b}",
    "[a",
    "*a",
    "&a",
    "!!python/object/apply:os.system [id]",
    "x\n---\n# Not the card",
    "x\nlicense: mit",
    "%YAML 1.2",
    "\u2028x",
    pytest.param("\x07", id="bell"),
    "2026-01-01",
    "<b>",
    "",
    " ",
)


def matter(card: Card) -> dict[str, Any]:
    """The front matter, by a plain reader of YAML."""
    content = yaml.safe_load(card.readme.split("---\n")[1])
    assert isinstance(content, dict)
    return content


def test_the_hubs_own_reader_finds_every_key(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    hub = of_hub(candidate.manifest)
    card = artifacts.card(
        artifacts.candidate(manifest=hub), card={"license": "apache-2.0", "language": ["zh", "en"]}
    )
    data = ModelCard(card.readme).data
    assert isinstance(data, ModelCardData)
    assert data.base_model == BASE
    assert data.license == "apache-2.0"
    assert data.language == ["zh", "en"]
    assert data.library_name == "llama.cpp"
    assert data.pipeline_tag == "text-generation"
    assert {"gguf", "conversational", "modelwright"} <= set(data.tags or ())
    more = matter(card)
    assert more["base_model_relation"] == "quantized"
    assert more["quantized_by"] == "someone"
    assert ModelCard(card.readme).text.strip().startswith("# Base-0.5B-Chat-GGUF")


def test_a_local_source_is_nobodys_base_model(card: Card) -> None:
    assert not {"base_model", "base_model_relation", "model_creator"} & set(matter(card))
    assert "huggingface.co" not in card.section("Make it again")


def test_unquantised_weights_are_not_called_quantised(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate("hf")
    found = matter(artifacts.card(artifacts.candidate("hf", manifest=of_hub(candidate.manifest))))
    assert found["base_model"] == BASE
    assert found["library_name"] == "transformers"
    assert not {"base_model_relation", "quantized_by"} & set(found)


@pytest.mark.parametrize(
    ("target", "library"), [("onnx-int4-cpu", "onnxruntime-genai"), ("hf", "transformers")]
)
def test_each_format_names_its_library(artifacts: Artifacts, target: str, library: str) -> None:
    assert matter(artifacts.card(artifacts.candidate(target)))["library_name"] == library


def test_every_figure_of_the_index_is_the_reports(card: Card) -> None:
    name, results = model_index_to_eval_results(matter(card)["model-index"])
    assert name == "tiny-GGUF"
    found = {
        (each.dataset_type, each.dataset_config, each.metric_name): each.metric_value for each in results
    }
    wanted: dict[tuple[str, str | None, str], float] = {}
    for candidate in card.bundle.candidates:
        quality, scenarios, shown = candidate.result.quality, candidate.result.scenarios, label(candidate)
        assert quality is not None
        assert scenarios is not None
        for metric, value in (
            ("Perplexity", quality.ppl),
            ("Perplexity relative to the source", quality.ppl_ratio),
            ("Mean KL divergence from the source, nats", quality.kl_mean),
            ("Same most likely token as the source", quality.top1),
        ):
            wanted["modelwright-text", None, f"{metric} ({shown})"] = value
        for score in scenarios.scores:
            place = (f"modelwright-{score.scenario}", score.language, f"Dialogues passed ({shown})")
            wanted[place] = score.smoke
    assert found == pytest.approx(wanted, rel=1e-5)
    assert len(results) == len(wanted) == 3 * (4 + 2)
    data = ModelCard(card.readme).data
    assert isinstance(data, ModelCardData)
    assert len(data.eval_results or ()) == len(results)


def test_the_index_has_the_shape_of_the_hubs_own_maker(card: Card) -> None:
    made = metadata_eval_result(
        model_pretty_name="tiny-GGUF",
        task_pretty_name="Text generation",
        task_id="text-generation",
        metrics_pretty_name="Perplexity (Q8_0)",
        metrics_id="perplexity",
        metrics_value=8.0,
        dataset_pretty_name="a text",
        dataset_id="modelwright-text",
    )["model-index"]
    found = matter(card)["model-index"]
    assert set(found[0]) == set(made[0])
    theirs, ours = made[0]["results"][0], found[0]["results"][0]
    assert set(theirs) == set(ours)
    assert theirs["task"] == ours["task"]
    assert set(theirs["dataset"]) == set(ours["dataset"])
    assert set(theirs["metrics"][0]) - {"verified"} == set(ours["metrics"][0])


def test_what_was_not_measured_is_not_in_the_index(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    bare = candidate.result.model_copy(update={"quality": None, "scenarios": None})
    found = matter(artifacts.card(artifacts.candidate(result=bare)))
    assert "model-index" not in found


def test_the_hub_takes_it(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        ModelCard(card.readme).validate()
        assert [exchange.status for exchange in server.log] == [200]
    huggingface_hub.close_session()


@pytest.mark.parametrize("nasty", NASTY)
def test_a_strangers_words_stay_words(artifacts: Artifacts, nasty: str) -> None:
    given = {
        "license": nasty,
        "license_name": nasty,
        "license_link": nasty,
        "language": [nasty, "en"],
        "tags": [nasty, "math"],
        "base_model": nasty,
        nasty: nasty,
    }
    card = artifacts.card(card=given)
    found = matter(card)
    assert card.readme.startswith("---\n")
    assert ModelCard(card.readme).text.strip().startswith("# tiny-GGUF")
    assert set(found) <= {
        *("license", "license_name", "license_link", "language", "library_name", "pipeline_tag", "tags"),
        *("quantized_by", "inference", "model-index"),
    }
    assert all(isinstance(tag, str) for tag in found["tags"])
    assert "math" in found["tags"]
    assert set(found["language"]) <= {"en", "no"}
    assert found["license"] == ("other" if nasty.strip() else "apache-2.0")
    assert "license_link" not in found


@pytest.mark.parametrize("word", NASTY)
def test_what_is_dumped_is_read_back(word: str) -> None:
    content = {"a": word, "b": [word, {"c": word}]}
    assert yaml.safe_load(front_matter.dump(content)) == content
    if word.strip():
        # A reader of YAML 1.2 takes other words for numbers and truths: what may be one is quoted.
        bare = front_matter.dump({"a": word}).removeprefix("a: ").strip()
        assert bare[0] in "\"'" or bare.replace(" ", "").isalpha()


def test_an_own_license_is_named_and_linked(artifacts: Artifacts) -> None:
    source = {
        "license": "other",
        "license_name": "Tongyi Qianwen LICENSE AGREEMENT",
        "license_link": "https://example.org/Tongyi%20Qianwen",
    }
    card = artifacts.card(card=source)
    found = matter(card)
    assert (found["license"], found["license_name"]) == ("other", "tongyi-qianwen-license-agreement")
    assert found["license_link"] == source["license_link"]
    assert source["license_link"] in card.section("License")


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "http://a b",
        "https://x@evil.example/",
        "//evil.example",
        "LICENSE",
        "file:///etc",
    ],
)
def test_only_a_whole_address_is_a_link(artifacts: Artifacts, link: str) -> None:
    card = artifacts.card(card={"license": "other", "license_name": "own", "license_link": link})
    assert "license_link" not in matter(card)
    assert link not in card.body


def test_a_license_that_lies_in_the_source_is_linked_there(artifacts: Artifacts) -> None:
    hub = of_hub(artifacts.candidate().manifest, "LICENSE")
    card = artifacts.card(artifacts.candidate(manifest=hub), card={"license": "other", "license_name": "own"})
    assert matter(card)["license_link"] == f"https://huggingface.co/{BASE}/blob/{COMMIT}/LICENSE"


def test_a_license_beside_the_weights_is_linked_there(artifacts: Artifacts) -> None:
    bundle = artifacts.bundle(card={"license": "made-up-1.0"}).with_made({"LICENSE": b"Do as you like.\n"})
    found = front_matter.values(bundle, _facts(artifacts))
    assert (found["license"], found["license_name"], found["license_link"]) == (
        "other",
        "made-up-1.0",
        "LICENSE",
    )


def test_no_license_is_said_to_be_none(artifacts: Artifacts) -> None:
    card = artifacts.card(artifacts.candidate(manifest={"license": None}), card={})
    assert "license" not in matter(card)
    assert "names no license" in card.section("License")


def test_regions_stand_apart_from_languages(artifacts: Artifacts) -> None:
    found = matter(artifacts.card(card={"language": ["pt-BR", "en", "zh-Hans-CN", "klingon", "english", 7]}))
    assert found["language"] == ["pt", "en", "zh"]
    assert found["language_bcp47"] == ["pt-BR", "zh-Hans-CN"]


def test_a_sources_tags_are_kept_but_for_those_of_its_files(artifacts: Artifacts) -> None:
    given = ["not-for-all-audiences", "math", "safetensors", "region:us", "arxiv:1910.09700", "custom_code"]
    found = matter(artifacts.card(card={"tags": given}))["tags"]
    assert {"not-for-all-audiences", "math"} <= set(found)
    assert not {"safetensors", "region:us", "arxiv:1910.09700", "custom_code"} & set(found)


def _facts(artifacts: Artifacts) -> Any:
    from convert.publish.card.facts import gather  # noqa: PLC0415

    return gather(artifacts.candidate())


@pytest.mark.parametrize(
    ("target", "relation"), [("gguf-Q8_0", "quantized"), ("hf", "merge")], ids=["quantized", "plain"]
)
def test_base_and_adapter_are_both_named(target: str, relation: str, artifacts: Artifacts) -> None:
    hub = of_hub(artifacts.candidate(target).manifest)
    adapter = AdapterRecord(
        repo="Tuner/Poet", commit=COMMIT, files=hub["source"].files[:1], base=BASE, license="cc-by-4.0"
    )
    candidate = artifacts.candidate(target, manifest={**hub, "license": "apache-2.0", "adapter": adapter})
    card = artifacts.card(candidate, card={"license": "apache-2.0"})
    data = ModelCard(card.readme).data
    assert isinstance(data, ModelCardData)
    assert data.base_model == [BASE, "Tuner/Poet"]
    assert matter(card)["base_model_relation"] == relation
    assert (data.license, data.license_name) == ("other", "apache-2.0-and-cc-by-4.0")
    assert card.bundle.title == "Poet"
    assert "with the LoRA adapter [Tuner/Poet](https://huggingface.co/Tuner/Poet)" in card.readme
    assert "The adapter's license, `cc-by-4.0`, holds for them as well." in card.readme
    assert f"`adapter: {{repo: Tuner/Poet, revision: {COMMIT}}}`" in card.readme
    same = artifacts.candidate(
        target, manifest={**hub, "adapter": adapter.model_copy(update={"license": "mit"}), "license": "mit"}
    )
    assert matter(artifacts.card(same, card={"license": "mit"}))["license"] == "mit"
