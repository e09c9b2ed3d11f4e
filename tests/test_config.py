"""Flags and YAML become validated sections, or one line that names the key, the value and the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from calling import call
from launching import REPOSITORY
from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import build_section, parse_sections, sections_as_yaml, warn_of_unused
from faceid.errors import ConfigError

COMMANDS = ["train.py", "sample.py", *sorted(f"tools/{path.name}" for path in (REPOSITORY / "tools").glob("*.py"))]


@dataclass(frozen=True)
class Training:
    """Training."""

    output_dir: Path
    """Where the run goes."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Peak rate."""
    num_epochs: Annotated[int, Field(ge=1)] = 100
    """Epochs."""
    allow_few: bool = False
    """Go on with fewer photos."""
    resume: str | None = None
    """Checkpoint."""


@dataclass(frozen=True)
class Adapter:
    """Adapter."""

    lora_branch: Literal["base", "vace", "both"] = "base"
    """Which blocks get a LoRA."""
    lora_rank: int = 64
    """Rank."""
    size: tuple[int, int] = (480, 832)
    """Two numbers."""

    def __post_init__(self) -> None:
        if self.lora_rank % 2:
            raise ValueError(f"lora_rank={self.lora_rank}: must be even")


def parse(*argv: str) -> tuple[Training, Adapter]:
    training, adapter = parse_sections("prog", "what it does", [Training, Adapter], list(argv))
    return training, adapter


def yaml_file(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return str(path)


def test_defaults_and_flags_fill_their_own_section():
    training, adapter = parse("--output_dir", "out", "--lora_rank", "8", "--learning_rate=2e-5")
    assert training == Training(output_dir=Path("out"), learning_rate=2e-5)
    assert adapter == Adapter(lora_rank=8)


@pytest.mark.parametrize("wrong", ["--learning_rat", "--learningrate"])
def test_an_unknown_flag_names_the_nearest(wrong):
    with pytest.raises(ConfigError, match=rf"^{wrong}: unknown key; did you mean --learning_rate\?$"):
        parse("--output_dir", "out", wrong, "1e-5")


def test_an_unknown_flag_with_an_equals_sign_names_the_nearest():
    with pytest.raises(ConfigError, match=r"^--num_epoch: unknown key; did you mean --num_epochs\?$"):
        parse("--output_dir", "out", "--num_epoch=3")


def test_an_abbreviated_flag_is_refused():
    with pytest.raises(ConfigError, match="did you mean --num_epochs"):
        parse("--output_dir", "out", "--num_ep", "3")


def test_an_unknown_yaml_key_names_file_and_nearest(tmp_path):
    file = yaml_file(tmp_path, "output_dir: out\nlora_ranks: 4\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: lora_ranks: unknown key; did you mean lora_rank\?"):
        parse("--config", file)


def test_an_unknown_key_far_from_all_names_says_where_to_look():
    with pytest.raises(ConfigError, match="--zzzzqqq: unknown key; see --help"):
        parse("--output_dir", "out", "--zzzzqqq", "1")


@pytest.mark.parametrize("first", ["config", "flag"])
@pytest.mark.parametrize("glued", [True, False])
def test_the_command_line_wins_over_yaml_in_either_order(tmp_path, first, glued):
    file = yaml_file(tmp_path, "output_dir: out\nnum_epochs: 7\nlearning_rate: 0.5\n")
    config = [f"--config={file}"] if glued else ["--config", file]
    flag = ["--num_epochs", "3"]
    training, _ = parse(*(config + flag if first == "config" else flag + config))
    assert (training.num_epochs, training.learning_rate) == (3, 0.5)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--allow_few"], True),
        (["--allow_few", "true"], True),
        (["--allow_few", "False"], False),
        (["--allow_few=false"], False),
        ([], False),
    ],
)
def test_a_bare_boolean_flag_means_true(argv, value):
    training, adapter = parse(*argv, "--output_dir", "out", "--lora_rank", "6")
    assert training.allow_few is value
    assert adapter.lora_rank == 6


def test_a_bare_boolean_flag_may_be_last():
    training, _ = parse("--output_dir", "out", "--allow_few")
    assert training.allow_few is True


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--learning_rate", "0"], ["learning_rate", "0"]),
        (["--learning_rate", "2"], ["learning_rate", "2"]),
        (["--num_epochs", "0"], ["num_epochs", "0", "greater than or equal to 1"]),
        (["--num_epochs", "three"], ["num_epochs", "three"]),
        (["--lora_branch", "all"], ["lora_branch", "all", "vace"]),
        (["--lora_rank", "3"], ["lora_rank=3", "must be even"]),
    ],
)
def test_a_value_that_cannot_be_is_one_line_with_key_and_value(argv, words):
    with pytest.raises(ConfigError) as error:
        parse("--output_dir", "out", *argv)
    assert [word for word in words if word not in str(error.value)] == []
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Several:
    """Values that may be several things."""

    timing: Literal["tempo", "frames"] | Annotated[float, Field(ge=0.1, le=1000)] = "tempo"
    """Words or a rate."""
    seed: list[Annotated[int, Field(le=9)]] | Annotated[int, Field(le=9)] = 1
    """One or many."""
    count: int | Literal["all"] | None = None
    """All, or so many."""
    place: Path | None = None
    """A file."""
    places: list[str] | str | None = None
    """Files."""
    prompt: str = ""
    """Words."""
    allow_few: bool = False
    """Yes or no."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timing: Frames", "timing=Frames: must be tempo or frames, or a number"),
        ("timing: 1.0e-300", "timing=1e-300: Input should be greater than or equal to 0.1; or give tempo or frames"),
        ("count: ALL", "count=ALL: must be a whole number, or all, or null"),
        ("seed: 2001-02-03", "seed=2001-02-03: must be a list of whole numbers, or a whole number"),
        ("seed: null", "seed=None: must be a list of whole numbers, or a whole number"),
        ("seed: [1, 10]", "seed.1=10: Input should be less than or equal to 9"),
        ("places: {a: 1}", "places: has keys below it"),
        ("prompt: [a]", "prompt=['a']: must be a text"),
        ("allow_few: 3", "allow_few=3: must be true or false"),
    ],
)
def test_a_wrong_value_says_what_may_be_given_and_the_file_it_is_in(tmp_path, text, said):
    file = yaml_file(tmp_path, text + "\n")
    with pytest.raises(ConfigError) as error:
        parse_sections("prog", "", [Several], ["--config", file])
    assert str(error.value).startswith(f"{file}: {said}")
    key = text.partition(":")[0]
    if "{" not in text and "null" not in text and key != "prompt":
        with pytest.raises(ConfigError) as error:
            parse_sections("prog", "", [Several], [f"--{key}={text.partition(': ')[2]}"])
        assert str(error.value).startswith((said, "unrecognized")) and file not in str(error.value)


def test_the_file_is_not_blamed_for_a_flag(tmp_path):
    file = yaml_file(tmp_path, "seed: 3\n")
    with pytest.raises(ConfigError, match=r"^seed=x: must be"):
        parse_sections("prog", "", [Several], ["--config", file, "--seed", "x"])
    with pytest.raises(ConfigError, match=r"config.yaml: seed=x: must be"):
        parse_sections("prog", "", [Several], ["--seed", "4", "--config", yaml_file(tmp_path, "seed: x\n")])


def test_a_tilde_is_home_in_a_path_and_a_tilde_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = 'place: "~/x"\nplaces: ["~", "clip:~/y", "a~/b"]\nprompt: "~/z"\n'
    (found,) = parse_sections("prog", "", [Several], ["--config", yaml_file(tmp_path, text)])
    home = str(tmp_path)
    assert (found.place, found.places) == (tmp_path / "x", [home, f"clip:{home}/y", "a~/b"])
    assert found.prompt == "~/z"
    (found,) = parse_sections("prog", "", [Several], ["--place=~/x"])
    assert found.place == tmp_path / "x"


def test_an_option_without_effect_is_named_once_and_only_when_chosen(caplog):
    chosen = Several(count=3, prompt="a")
    reasons = [("count", "with one"), ("count", "with another"), ("seed", "ever"), ("prompt", "here")]
    warn_of_unused([chosen], reasons)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["count: has no effect with one", "prompt: has no effect here"]


def test_a_missing_required_flag_is_named():
    with pytest.raises(ConfigError, match="output_dir"):
        parse("--num_epochs", "3")


def test_the_resolved_config_reads_back_equal(tmp_path):
    sections = parse("--output_dir", "a b/ü", "--allow_few", "--lora_branch", "both", "--size", "[32, 64]")
    file = yaml_file(tmp_path, sections_as_yaml(sections))
    assert parse("--config", file) == sections


@pytest.mark.parametrize(("text", "reason"), [("a: [1\n", "not YAML"), ("- 1\n", "found list"), ("", "found NoneType")])
def test_a_config_file_that_is_no_mapping_is_refused(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason):
        parse("--config", yaml_file(tmp_path, text), "--output_dir", "out")


def test_a_missing_config_file_is_refused():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        parse("--config", "nowhere.yaml", "--output_dir", "out")


def test_build_section_names_the_unknown_key():
    with pytest.raises(ConfigError, match=r"lora_rnk: unknown key; did you mean lora_rank\?"):
        build_section(Adapter, {"lora_rnk": 4})


def test_help_tells_each_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "--learning_rate" in text and "Peak rate." in text and "0.0001" in text


@dataclass(frozen=True)
class Scale:
    """Scale."""

    scale: float = 1.0
    """Without bounds."""
    place: Path = Path("a")
    """A file."""


@pytest.mark.fault("W5")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("learning_rate: 1e-5\nlearning_rate: 1e-6\n", "the key 'learning_rate' is there twice"),
        ("num_epochs: &a [*a]\n", "in itself"),
        ("num_epochs: " + "[" * 500 + "]" * 500, "nested more than 64 deep"),
        ("learning_rate: .nan\n", "nan is no number that can be used"),
        ('resume: "a\\0b"\n', "holds a NUL"),
        ("num_epochs: {a: 1}\n", "num_epochs: has keys below it"),
    ],
)
def test_yaml_that_would_be_taken_wrongly_is_one_line(tmp_path, text, reason):
    path = yaml_file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        parse("--output_dir", "out", "--config", path)
    assert reason in str(error.value) and path in str(error.value) and "\n" not in str(error.value)


@pytest.mark.fault("W5")
@pytest.mark.parametrize(
    ("words", "reason"), [("scale=.nan", "scale=nan: is not a finite"), ("scale=1e999", "scale=inf: is not a finite")]
)
def test_a_number_that_is_not_finite_is_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_sections("prog", "", [Scale], [f"--{words}"])
    with pytest.raises(ConfigError, match=r"place=.*holds a NUL"):
        build_section(Scale, {"place": "a\0b"})


@pytest.mark.parametrize("words", [["--output_dir", ""], ["--output_dir="], ["--config", "run.yaml"]])
def test_an_empty_text_is_no_path(words, tmp_path, monkeypatch):
    """A shell's variable that is not set. To Python it is the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text('output_dir: ""\n')
    with pytest.raises(ConfigError, match="output_dir: is empty; give a value"):
        parse_sections("train.py", "Train.", [Training], words)
    (training,) = parse_sections("train.py", "Train.", [Training], ["--output_dir", "."])
    assert training.output_dir == Path(".")


def test_what_does_not_go_together_is_refused_with_the_file_that_says_it(tmp_path):
    def check(training: Training, adapter: Adapter) -> None:
        if training.num_epochs > adapter.lora_rank:
            raise ConfigError(f"num_epochs={training.num_epochs}: more than lora_rank")

    def read(*words: str) -> list:
        return parse_sections("prog", "", [Training, Adapter], ["--output_dir", "o", *words], check)

    assert read("--num_epochs", "3")[0].num_epochs == 3
    with pytest.raises(ConfigError, match=r"^num_epochs=70: more than lora_rank$"):
        read("--num_epochs", "70")
    with pytest.raises(ConfigError, match=r"config\.yaml: num_epochs=70: more than lora_rank$"):
        read("--config", yaml_file(tmp_path, "num_epochs: 70\n"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_word_says_in_one_line_what_is_missing(command):
    done = call(command)
    assert done.code == 2 and done.error and "\n" not in done.error
