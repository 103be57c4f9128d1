import base64
import dataclasses
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from sample_results import build_result, crop

from mca_jax.core.errors import InputError
from mca_jax.data.files import SkippedImage
from mca_jax.model.result import ScoredNoun
from mca_jax.report import build_report, render_report
from mca_jax.report import map as map_module

VOID = {"br", "img", "input", "link", "meta"}
# SVG's own, which are written as empty elements.
EMPTY = {"line", "path", "polyline"}


class Page(HTMLParser):
    """A page read strictly: every element closes where it should."""

    def __init__(self, text):
        """Read all of it."""
        super().__init__(convert_charrefs=True)
        self.stack, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        """Note an element and that it is open."""
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"twice the same attribute: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an empty element."""
        assert tag in EMPTY
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Close the innermost element, which must be this one."""
        assert self.stack.pop() == tag

    def handle_data(self, data):
        """Note a text and what it is in."""
        inside = self.stack[-1] if self.stack else ""
        self.texts.append((inside, data.strip()))

    def all(self, tag, **wanted):
        """Attributes of the elements of one name."""
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and all(attrs.get(key) == wanted[key] for key in wanted)
        ]

    def shown(self):
        """Text that a reader sees."""
        hidden = ("style", "script")
        return " ".join(text for inside, text in self.texts if inside not in hidden)


def check(text):
    """Read a page and check what holds for every one."""
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        for name in ("href", "src"):
            target = attrs.get(name, "#" + ids[0])
            if target.startswith("#"):
                assert target[1:] in ids, f"nothing is called {target}"
            else:
                assert target.startswith("data:"), f"the page would ask for {target}"
        for name in ("for", "aria-labelledby"):
            assert attrs.get(name, ids[0]) in ids
        assert not any(name.startswith("on") for name in attrs)
    for image in page.all("img"):
        assert image["alt"] or image.get("id") == "viewer-picture"
    for svg in page.all("svg"):
        assert svg["aria-label"]
    return page


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return build_result(root, num_images=60, labels=np.arange(60) % 5)


@pytest.fixture(scope="module")
def page(result):
    return check(render_report(result, command="python -m experiments.cluster"))


def test_every_cluster_has_a_card(result, page):
    cards = page.all("article")
    assert [card["id"] for card in cards] == [f"cluster-{i}" for i in range(4)]
    assert {card["data-size"] for card in cards} == {"15"}
    for cluster in result.clusters:
        assert cluster.name in page.shown()


def test_shown_pictures_are_embedded_once_in_each_place(result, page):
    pictures = [image for image in page.all("img") if image.get("src")]
    # Four cards of 12 and 3 more, eight uncertain ones and eight outliers.
    assert len(pictures) == 4 * (12 + 3) + 8 + 8
    assert {image["alt"] for image in pictures} == set(result.paths)
    for image in pictures:
        assert image["loading"] == "lazy"
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        assert data.startswith(b"\xff\xd8")


def test_all_sections_are_there_and_linked(page):
    sections = [section["id"] for section in page.all("section")]
    assert sections == [
        "overview",
        "map",
        "clusters",
        "uncertain",
        "outliers",
        "duplicates",
        "quality",
        "training",
        "nouns",
        "skipped",
        "reproduce",
    ]
    links = {link["href"] for link in page.all("a")}
    assert {f"#{section}" for section in sections} <= links


def test_numbers_are_on_the_page(page):
    shown = page.shown()
    for text in (
        "Accuracy by labels",
        "k-means in the space of this run",
        "92.1",
        "Gradient norm",
        "Of 82,115 nouns, 2,000 were left",
        "photos/broken.jpg",
        "truncated JPEG file",
        "train.epochs",
        "python -m experiments.cluster",
        "photographs of everyday things (ImageNet)",
        "The vocabulary fits these images poorly",
    ):
        assert text in shown, text


def test_landmarks_have_names(page):
    for tag in ("main", "header", "footer", "nav"):
        assert len(page.all(tag)) == 1, tag
    assert page.all("nav")[0]["aria-label"]
    assert all(section["aria-labelledby"] for section in page.all("section"))
    assert page.all("html", lang="en")
    named = {label["for"] for label in page.all("label")}
    for tag in ("input", "select"):
        assert {field["id"] for field in page.all(tag)} <= named
    for canvas in page.all("canvas"):
        assert canvas["aria-label"]


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))


def test_no_time_is_on_the_page(result):
    first = render_report(result)
    later = dataclasses.replace(
        result,
        seconds={"embed": 1e6},
        history=tuple({**row, "seconds": 7.0} for row in result.history),
    )
    assert render_report(later) == first
    assert "1000000.0 s" in render_report(result, seconds={"embed": 1e6})


def test_only_the_own_script_may_run(result):
    text = render_report(result)
    policy = check(text).all("meta")[1]["content"]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 191 }} {% raw %}",
    "</style></title><b>&amp;",
    "javascript:alert(1)",
)


def test_whatever_comes_in_is_text():
    clean = Page(render_report(build_result(None, num_clusters=5, num_images=10)))
    base = build_result(
        None,
        names=HOSTILE,
        num_clusters=5,
        paths=[f"{HOSTILE[i % 5]}{i}" for i in range(10)],
        num_images=10,
        skipped=(SkippedImage(HOSTILE[0], HOSTILE[1]),),
        warnings=HOSTILE[:1],
        config={HOSTILE[0]: HOSTILE[1], "num_clusters": 5},
        provenance={"encoder": {"name": HOSTILE[0], "domain": HOSTILE[1]}},
        audit={HOSTILE[0]: 3, "kept": 1},
        metrics={
            "label_free": {HOSTILE[0]: 0.5},
            "scores": {HOSTILE[1]: {"acc": 0.5, "nmi": 0.5, "ari": 0.5}},
            "contingency": {"classes": HOSTILE, "counts": np.eye(5, dtype=int)},
        },
        history=({"epoch": 1.0, HOSTILE[0]: 0.5}, {"epoch": 2.0, HOSTILE[0]: 0.4}),
    )
    noun = ScoredNoun(HOSTILE[1], HOSTILE[0], 0.5, HOSTILE[0])
    clusters = tuple(
        dataclasses.replace(cluster, nouns=(noun,)) for cluster in base.clusters
    )
    result = dataclasses.replace(base, clusters=clusters, root=f"/x/{HOSTILE[1]}")
    page = check(render_report(result, command=HOSTILE[0]))
    for tag in ("script", "img", "style", "title"):
        assert len(page.all(tag)) == len(clean.all(tag))
    assert "1337" not in page.shown()
    for text in HOSTILE:
        assert text in page.shown()


@pytest.mark.parametrize(
    "name",
    ["كلب السلوقي", "🐕‍🦺 emoji", "x" * 3000, "two\nlines", "\u202ereversed", " "],
)
def test_any_name_gets_a_card(name):
    result = build_result(None, names=[name, "other"], num_clusters=2)
    page = check(render_report(result))
    assert len(page.all("article")) == 2
    assert "\u202e" not in page.shown()


@pytest.mark.parametrize("clusters", [2, 150, 1000])
def test_any_number_of_clusters(clusters):
    result = build_result(
        None,
        num_clusters=clusters,
        num_images=3 * clusters,
        labels=np.arange(3 * clusters) % clusters,
    )
    text = render_report(result)
    assert len(check(text).all("article")) == clusters
    assert len(text) < 8_000_000


def test_almost_nothing_to_show():
    result = build_result(
        None,
        assignments=np.zeros(2, int),
        names=["all", "none"],
        history=(),
        metrics={},
        audit={},
        warnings=(),
        skipped=(),
        config={},
        provenance={},
    )
    page = check(render_report(result))
    assert "nouns" not in [section["id"] for section in page.all("section")]
    for text in (
        "Nothing was recorded of the training.",
        "Every file was read.",
        "No image was put into cluster 1.",
        "1 of 2 clusters is empty",
    ):
        assert text in page.shown()


def test_pictures_that_are_gone_get_a_placeholder(tmp_path):
    result = build_result(tmp_path, num_images=8, num_clusters=2)
    (tmp_path / result.paths[0]).unlink()
    (tmp_path / result.paths[1]).write_bytes(b"\xff\xd8\xff broken")
    page = check(render_report(result))
    alts = {image["alt"] for image in page.all("img") if image.get("src")}
    assert alts == set(result.paths[2:])
    assert result.paths[0] in page.shown()


def map_data(text):
    """What the page knows of the map, as the script reads it."""
    pattern = r'<script type="application/json" id="map-data">(.*?)</script>'
    (found,) = re.findall(pattern, text, re.DOTALL)
    assert not set(found) & set("<>")
    return json.loads(found)


def test_the_map_has_every_image_with_its_picture(result):
    text = render_report(result)
    data = map_data(text)
    assert data["path"] == list(result.paths)
    assert data["cluster"] == result.assignments.tolist()
    assert data["confidence"] == [round(100 * float(p)) for p in result.confidences]
    assert data["tile"] == list(range(60))
    assert data["names"] == [cluster.name for cluster in result.clusters]
    assert max(data["x"] + data["y"]) == 10_000
    assert "All 60 images" in check(text).shown()
    (sheet,) = data["sheets"]
    head, content = sheet.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (16 * 96, 4 * 96)


def test_hostile_names_stay_text_in_the_map():
    result = build_result(None, num_images=5, num_clusters=2, paths=HOSTILE)
    assert map_data(render_report(result))["path"] == list(HOSTILE)


def test_duplicates_are_shown_with_their_pictures(tmp_path):
    result = build_result(tmp_path, num_images=12, num_clusters=2)
    first, second = result.paths[:2]
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    result.embeddings[1] = result.embeddings[0]
    report = build_report(result)
    assert [(each.kind, each.rows) for each in report.duplicates] == [
        ("identical", (0, 1))
    ]
    assert "1 file repeats another one bit for bit" in check(report.html).shown()
    # Equal embeddings are no proof: without pictures nothing is said.
    assert build_report(dataclasses.replace(result, root="")).duplicates == ()


def test_pictures_can_lie_beside_the_page(tmp_path):
    paths = [f"<script>alert({i})</script> ..\\ %41?#.jpg" for i in range(12)]
    paths = [path.replace("/", "_") for path in paths]
    result = build_result(tmp_path, num_clusters=2, num_images=12, paths=paths)
    inside, beside = (
        build_report(result, thumbnails=each) for each in ("embed", "beside")
    )
    assert inside.files == {}
    assert "data:image" not in beside.html
    names = {f"report_files/{row:07d}.jpg" for row in range(12)}
    assert set(beside.files) == names | {"report_files/map-000.jpg"}
    page = Page(beside.html)
    assert {image["src"] for image in page.all("img") if "src" in image} == names
    assert map_data(beside.html)["sheets"] == ["report_files/map-000.jpg"]
    encoded = {base64.b64encode(jpeg).decode() for jpeg in beside.files.values()}
    assert all(f"data:image/jpeg;base64,{text}" in inside.html for text in encoded)
    with pytest.raises(InputError, match="thumbnails"):
        build_report(result, thumbnails="besides")


def test_the_page_tells_its_size(result):
    text = render_report(result)
    (size,) = re.findall(r"own pictures: ([\d.]+) MB", check(text).shown())
    assert float(size) == pytest.approx(len(text.encode()) / 1e6, abs=0.06)
    beside = build_report(result, thumbnails="beside")
    (size,) = re.findall(r"([\d.]+) MB of pictures", Page(beside.html).shown())
    total = sum(map(len, beside.files.values())) / 1e6
    assert float(size) == pytest.approx(total, abs=0.06)


def test_no_more_than_the_end_of_a_path_is_shown(result):
    config = {"images": "/data/jane/photos", "num_clusters": 4}
    shown = check(render_report(dataclasses.replace(result, config=config))).shown()
    assert "…/photos" in shown
    assert "jane" not in shown


def test_a_large_set_is_drawn_in_part(monkeypatch):
    monkeypatch.setattr(map_module, "_MOST_POINTS", 50)
    result = build_result(None, num_images=200, num_clusters=4)
    text = render_report(result)
    data = map_data(text)
    rows = [result.paths.index(path) for path in data["path"]]
    assert rows == sorted(set(rows))
    assert 50 <= len(rows) <= 54
    assert {cluster.exemplars[0] for cluster in result.clusters} <= set(rows)
    assert f"{len(rows)} of 200 images ({len(rows) / 2:.1f}%)" in check(text).shown()
    assert render_report(result) == text


def test_pictures_of_arrays():
    result = build_result(None, num_images=8, num_clusters=2)
    assert len(check(render_report(result)).all("img")) == 1
    page = check(render_report(result, load_image=crop))
    alts = {image["alt"] for image in page.all("img") if image.get("src")}
    assert alts == set(result.paths)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("python -m x --a=1", "python -m x --a=1"),
        ("p" * 80 + " --a=1 --b", "p" * 80 + " \\\n  --a=1 \\\n  --b"),
        ("p" * 80 + " --a='x --y'", "p" * 80 + " --a='x --y'"),
    ],
)
def test_long_commands_are_broken_before_flags(command, shown):
    page = check(render_report(build_result(None), command=command))
    assert shown in page.shown()


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """Contrast of two colours as WCAG defines it, from 1 to 21."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def mixed(one, other, share):
    parts = [
        round(int(one[i : i + 2], 16) * share + int(other[i : i + 2], 16) * (1 - share))
        for i in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    folder = resources.files("mca_jax.report") / "templates"
    style = "".join((folder / f"{name}.css").read_text() for name in ("base", "style"))
    (shade,) = re.findall(r"var\(--s, 0\) \* (\d+)%", style)
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))
    colours["cell"] = mixed(colours["accent"], colours["surface"], float(shade) / 100)
    for front, back in [
        ("text", "page"),
        ("text", "surface"),
        ("text", "accent-soft"),
        ("text", "cell"),
        ("muted", "page"),
        ("muted", "surface"),
        ("muted", "accent-soft"),
        ("muted", "track"),
        ("link", "page"),
        ("link", "surface"),
        ("notice-text", "notice"),
    ]:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    for front in ("accent", "unsure"):
        assert contrast(colours[front], colours["surface"]) >= 3, front
