"""The notebooks as files, and run on pairs of random models: every cell, any outcome."""

import ast
import io
import re

import matplotlib.figure
import nbformat
import pandas as pd
import pytest
from IPython import display as ipython_display
from PIL import Image as Picture

from mechshift_lib.analyses import page
from mechshift_lib.analyses.words.formatting import Finding
from mechshift_lib.book.questions import question_page
from mechshift_lib.config import ANALYSES, ROOT, load_pair
from mechshift_lib.markup.figures import DPI, Drawn
from mechshift_lib.plots.theme import WIDTH
from mechshift_lib.workflow import book_pages
from tests.support.claims import JUDGED, contradictions
from tests.support.notebooks import code, parameters, read, run, said
from tests.support.study import make_pair

PAIRED = ANALYSES
NAMES = (*PAIRED, *book_pages())
#: Shows a model and a formula written out; all others call the library.
BY_HAND = "eap_ig_by_hand"


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_valid_stripped_and_named(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in code(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_does_nothing_but_on_colab(name):
    first = code(read(name))[0]
    imports, condition = ast.parse(first.source).body
    assert ast.unparse(imports) == "import sys"
    assert isinstance(condition, ast.If)
    assert ast.unparse(condition.test) == "'google.colab' in sys.modules"
    assert not condition.orelse


@pytest.mark.parametrize("name", PAIRED)
def test_parameters_have_the_agreed_names(name):
    assigned = [
        statement.targets[0].id for statement in ast.parse(parameters(read(name)).source).body
    ]
    assert assigned[:3] == ["pair", "budget", "results"]


@pytest.mark.parametrize("name", NAMES)
def test_no_analysis_is_defined_in_a_notebook(name):
    for cell in code(read(name)):
        tree = ast.parse(cell.source)
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
        assert name == BY_HAND or not any(isinstance(node, kinds) for node in ast.walk(tree))


@pytest.mark.parametrize("name", PAIRED)
def test_prose_has_no_results_typed_by_hand(name):
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            decimals = re.findall(r"\b[01]\.\d+\b", cell.source)
            assert not decimals, cell.source


def tables_missed(text):
    """Sections of a comparative page that speak of a table or of maps and have none."""
    missed = []
    for section in re.split(r"^(?=## )", text, flags=re.M):
        prose = re.sub(r"^```\{raw\} html\n.*?^```$", "", section, flags=re.M | re.S)
        prose = re.sub(r"^\*Every figure and table.*$", "", prose, flags=re.M)  # links elsewhere
        has = {r"\btables?\b": "<table" in section or "\n|---" in section}
        has[r"\bmaps\b"] = "<figure" in section
        missed += [prose for word, there in has.items() if re.search(word, prose) and not there]
    return missed


def test_a_table_that_is_spoken_of_and_not_shown_is_found():
    shown = "## A\n\nIn the table.\n\n```{raw} html\n<table></table>\n```\n"
    assert tables_missed(f"{shown}\n## B\n\nNothing.") == []
    lost = "## B\n\nThe maps say so, the table more."
    assert tables_missed(f"{shown}\n{lost}") == [lost, lost]


def pictures(outputs):
    return [Picture.open(io.BytesIO(o.png)) for o in outputs if isinstance(o, Drawn)]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("behaviour", 3),
        ("circuits", 9),
        ("overlap", 7),
        ("patching", 15),
        ("faithfulness", 3),
        ("ablation", 2),
        ("planning", 3),
        ("trust", 4),
        ("probes", 6),
        ("lens", 10),
        ("components", 3),
        ("neurons", 3),
        ("attention", 4),
        ("meeting", 3),
        ("dictionaries", 2),
        ("cues", 3),
        ("trajectory", 6),
        ("robustness", 2),
        ("errors", 0),
    ],
)
def test_every_cell_runs_and_says_and_shows_something(name, figures, whole, shown, monkeypatch):
    notebook = run(name, monkeypatch, whole, outputs=shown)
    assert tables_missed(question_page(name, [(load_pair("toy", whole), notebook)])) == []
    text = said(shown)
    assert "**Toy.**" in text
    assert "nan" not in text.lower().split()
    drawn = pictures(shown)
    assert len(drawn) == figures
    figures_shown = [o for o in shown if isinstance(o, Drawn)]
    texts = [o.alt for o in figures_shown]
    assert all('class="mechshift-about"' in o.html for o in figures_shown)
    assert all("data:text/csv" in o.html for o in figures_shown), "each can be saved as a table"
    assert len(set(texts)) == figures, "each figure has an alternative text of its own"
    assert all(len(text) > 60 for text in texts)
    if name not in JUDGED:  # what those say of claims is tested with the verdicts
        assert contradictions({name: "\n".join([text, *texts])}, [], {}) == []
    for picture in drawn:
        assert picture.width == int(WIDTH * DPI)
        assert picture.convert("RGB").getpixel((2, 2)) == (251, 251, 249)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("behaviour", "there is one order only"),
        ("circuits", "there are no steps to compare"),
        ("overlap", "This pair has no continued-training control"),
        ("patching", "there are no steps to compare"),
        ("faithfulness", "the pair has no control"),
        ("ablation", "random others"),
        ("planning", "no mask waits"),
        ("trust", "too few for intervals"),
        ("probes", "so there is nothing to plan"),
        ("lens", "one mask state only"),
        ("components", "1 training, which decides nothing"),
        ("neurons", "1 training, which decides nothing"),
        ("attention", "1 training, which decides nothing"),
        ("meeting", "which decides nothing"),
        ("dictionaries", "no continued-training control"),
        ("cues", "can't be asked so, as it has no Countdown"),
        ("trajectory", "ships no trajectory"),
        ("robustness", "can't be measured again"),
        ("errors", "nothing to simulate from"),
    ],
)
def test_a_pair_with_the_least_is_told_what_it_lacks(name, sentence, least, shown, monkeypatch):
    run(name, monkeypatch, least)
    assert sentence in said(shown)
    if name == "overlap":
        assert "one training seed" in said(shown)
        assert "**C1 doesn't apply**. The pair has no Countdown." in said(shown)


def test_exact_circuits_have_estimated_ones_beside_them(shown, monkeypatch, tmp_path):
    make_pair(tmp_path, tasks=("ioi",), budget={"circuit_examples": 4, "estimator": "exact"})
    run("trust", monkeypatch, tmp_path)
    assert "In the mean over 2 trainings, too few for an interval, EAP-IG(2) shifts" in said(shown)
    assert len(pictures(shown)) == 5
    tables = [o.data for o in shown if isinstance(o, ipython_display.HTML)]
    (folded,) = [table for table in tables if "<details>" in table]
    assert "training 1" in folded


def test_the_papers_page_needs_no_pair(shown, monkeypatch, tmp_path):
    run("paper", monkeypatch, tmp_path)
    assert "0.053 and 0.250" in said(shown)
    assert len(pictures(shown)) == 2
    tables = [o.data for o in shown if isinstance(o, ipython_display.HTML)]
    assert len(tables) == 5
    assert "<th>Jaccard, top 1,000 edges (published)</th>" in tables[0]
    values = pd.read_csv(ROOT / "data/paper/overlap.csv", dtype=str).edge_jaccard_top1000
    assert all(f">{value}</td>" in tables[0] for value in values)
    assert "<td>Countdown</td>" in tables[1]
    assert "(240 rows)" in tables[2]
    assert "<td>ARM</td>" in tables[-1]
    assert "136,738.5" in tables[-1]


def test_the_page_of_benchmarks_needs_no_pair(shown, monkeypatch, tmp_path):
    run("speed", monkeypatch, tmp_path)
    assert "× the floor's time" in said(shown)
    assert "Fitted exponents" in said(shown)
    assert len(pictures(shown)) == 2


def test_a_finding_begins_the_caption_of_one_figure_and_stands_above_several(shown):
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    page.tell(Finding("Found."), figure)
    page.tell(Finding("Found."), figure, figure)
    page.tell(Finding("Found, see [there](x.ipynb)."), figure)
    kinds = [(type(o).__name__, o.data) for o in shown]
    assert kinds == [
        ("Drawn", "Found."),
        ("Markdown", "Found."),
        ("Drawn", ""),
        ("Drawn", ""),
        ("Markdown", "Found, see [there](x.ipynb)."),
        ("Drawn", ""),
    ]
    assert ["Found." in o.html for o in shown if isinstance(o, Drawn)][:3] == [True, False, False]


def test_a_pair_that_solves_nothing_is_told_so_claim_by_claim(shown, monkeypatch, least):
    run("verdicts", monkeypatch, least)
    text = said(shown)
    assert "7 verdicts: doesn't apply 7." in text
    tables = "".join(o.data for o in shown if isinstance(o, ipython_display.HTML))
    assert "don't both solve IOI" in tables
