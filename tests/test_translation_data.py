"""Text becomes words and text again; files of a pair are read as they lie."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fwpbench.operators.errors import UserError
from fwpbench.suites import data_sets
from fwpbench.suites.translation_data import (
    CORPORA,
    END,
    JOINER,
    PAD,
    UNKNOWN,
    Corpus,
    Pair,
    Vocabulary,
    copied,
    join_words,
    looked_up,
    pad,
    read_pairs,
    split_words,
)

TEXTS = [
    "Ein Boston Terrier läuft über saftig-grünes Gras vor einem weißen Zaun.",
    'A man says: "Don\'t!" (twice), and 3,50 € -- no, 4.',
    "...dots first",
    "one",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_split_is_joined_again(text):
    assert join_words(split_words(text)) == text


def test_spaces_become_single_ones():
    assert join_words(split_words("  two\t words \n")) == "two words"


def test_words_marks_and_what_is_joined():
    assert split_words("Don't go, saftig-grün (x)!") == [
        "Don't", "go", f"{JOINER},", "saftig-grün", "(", f"{JOINER}x", f"{JOINER})", f"{JOINER}!",
    ]  # fmt: skip


def test_words_are_numbered_by_frequency_and_rare_ones_are_unknown():
    vocabulary = Vocabulary(["b a c", "b a", "b d"], rare=2)
    assert vocabulary.words[4:] == ["b", "a"]
    assert vocabulary.encode("a c b") == [5, UNKNOWN, 4, END]
    assert vocabulary.decode([5, 4, END, 4]) == "a b"
    assert Vocabulary(["y x"]).words[4:] == ["x", "y"], "ties in alphabetical order"


def test_padding_stands_behind_and_is_masked():
    padded = pad([[5, 6, END], [END]])
    assert padded.words.tolist() == [[5, 6, END], [END, PAD, PAD]]
    assert padded.mask.tolist() == [[True, True, True], [True, False, False]]


def test_the_baselines_need_no_model():
    train = [Pair("the dog sees", "der Hund sieht"), Pair("the cat sees", "die Katze sieht")]
    corpus = Corpus(train, [], [Pair("sees a dog cat", "…")], rare=1)
    assert copied(corpus) == ["sees a dog cat"]
    # `dog` goes with der and Hund alike: the later in the alphabet is taken.
    assert looked_up(corpus) == ["sieht a der die"]


def write(path: Path, lines: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def multi30k(tmp_path, monkeypatch) -> Path:
    """Three small files each side, in the layout of the real ones."""
    files = {}
    for name, size in {"train": 5, "val": 3, "test_2016_flickr": 2}.items():
        for language, word in {"en": "A ball", "de": "Ein Ball"}.items():
            file = f"raw/{name}.{language}.gz"
            lines = [f"{word}\u2028{name} {number}. " for number in range(size)]
            files[file] = write(tmp_path / "multi30k" / file, lines)
    known = replace(data_sets.DATA_SETS["multi30k"], files=files)
    monkeypatch.setitem(data_sets.DATA_SETS, "multi30k", known)
    return tmp_path


def test_multi30k_is_read_as_it_lies(multi30k):
    """A line ends at its newline only: other separators are part of a caption."""
    corpus = CORPORA["multi30k"](multi30k)
    assert list(map(len, (corpus.train, corpus.valid, corpus.test))) == [5, 3, 2]
    assert corpus.test[1] == Pair(
        "A ball\u2028test_2016_flickr 1.", "Ein Ball\u2028test_2016_flickr 1."
    )


def test_another_file_under_the_same_name_is_refused(multi30k):
    write(multi30k / "multi30k" / "raw" / "val.de.gz", ["something else"])
    with pytest.raises(UserError, match=r"val.de.gz is not the multi30k that is measured on"):
        CORPORA["multi30k"](multi30k)


def test_without_a_folder_it_says_which_option_names_it():
    with pytest.raises(UserError, match="--data-dir"):
        CORPORA["multi30k"](None)


def test_files_of_a_pair_have_as_many_lines(tmp_path):
    write(tmp_path / "a.gz", ["one", "two", "", "four"])
    write(tmp_path / "b.gz", ["eins", "zwei", "drei", ""])
    assert read_pairs(tmp_path / "a.gz", tmp_path / "b.gz") == [
        Pair("one", "eins"), Pair("two", "zwei"),
    ]  # fmt: skip
    write(tmp_path / "b.gz", ["eins"])
    with pytest.raises(UserError, match=r"4 lines and .*b\.gz 1"):
        read_pairs(tmp_path / "a.gz", tmp_path / "b.gz")
