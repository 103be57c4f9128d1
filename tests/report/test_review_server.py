"""The server of a review: who gets an answer, and which."""

import os

import pytest
from sample_results import crop
from small_reviews import ORIGIN, TOKEN, open_page, write_run

pytest.importorskip("starlette", reason="the extra review is not installed")

HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("review"), pictures=6)


@pytest.fixture
def page(run):
    with open_page(run) as client:
        yield client


@pytest.fixture
def own(tmp_path):
    """A page over a run that nobody else edits."""
    with open_page(write_run(tmp_path)) as client:
        yield client


def edit(client, action, **values):
    version = client.get("ask/version").json()["version"]
    body = {"version": version, "action": action, **values}
    return client.post("tell/edit", json=body)


def test_the_page_and_its_parts(page):
    for name, kind in (
        ("", "html"),
        ("review.js", "javascript"),
        ("base.css", "css"),
        ("review.css", "css"),
    ):
        answer = page.get(name)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
    state = page.get("ask/state").json()
    assert state["images"] == 120
    assert [group["size"] for group in state["groups"]] == [30] * 4
    assert state["tree"] > 4


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": ORIGIN}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "evil@127.0.0.1.x"}, 403),
        ({"host": "["}, 403),
        # Through a tunnel from another port.
        ({"host": "localhost:9999"}, 200),
        ({"host": "[::1]:9999"}, 200),
        ({"host": "localhost:9999", "origin": "http://localhost:9999"}, 200),
        ({"host": "localhost:9999", "origin": ORIGIN}, 403),
    ],
)
@pytest.mark.parametrize("path", ["ask/state", "picture/0", ""])
def test_only_pages_of_this_server_get_an_answer(page, headers, status, path):
    del page.headers["origin"]
    answer = page.get(path, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["error"]


def test_a_change_needs_an_origin(page):
    del page.headers["origin"]
    body = {"version": 0, "action": "rename", "group": 0, "name": "mine"}
    assert page.post("tell/edit", json=body).status_code == 403
    evil = {"origin": "http://evil.example"}
    assert page.post("tell/edit", json=body, headers=evil).status_code == 403
    assert page.get("ask/version").json() == {"version": 0}


def test_a_form_of_another_page_changes_nothing(page):
    # What a form can send without asking first.
    text = '{"version": 0, "action": "rename", "group": 0, "name": "mine"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = page.post("tell/edit", content=text, headers={"content-type": kind})
        assert answer.status_code == 415
    assert page.get("ask/version").json() == {"version": 0}


@pytest.mark.parametrize(
    "token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é"]
)
def test_another_token_gets_nothing(page, token):
    for path in ("", "ask/state", "picture/0", "review.js"):
        assert page.get(f"{ORIGIN}/{token}/{path}").status_code == 404
    assert page.get(f"{ORIGIN}/{token}").status_code == 404
    assert page.get(ORIGIN).status_code == 404
    answer = page.post(f"{ORIGIN}/{token}/tell/edit", json={})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("picture/-1", "picture/120", "picture/0000.jpg", "picture/1.0"),
        *("picture/..%2f..%2fetc%2fpasswd", "picture/%2e%2e", "..%2f..%2fREADME.md"),
        *(
            "review.html.j2",
            "%2e%2e/style.css",
            "ask/secret",
            "picture/",
            "report.html",
        ),
        "picture/99999999999999999999999",
    ],
)
def test_nothing_but_the_run_s_pictures_is_there(page, path):
    assert page.get(path).status_code == 404


def test_pictures_come_without_what_the_file_says_of_itself(page, run):
    small, large = page.get("picture/3"), page.get("picture/3?large")
    for answer in (small, large):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8")
        assert b"Exif" not in answer.content
    assert small.content != large.content
    # Those without a file.
    assert page.get("picture/40").status_code == 404


def test_a_path_out_of_the_folder_is_not_followed(tmp_path):
    secret = tmp_path / "secret.jpg"
    crop(1).save(secret, "JPEG")
    run = write_run(tmp_path / "one", name="../../secret.jpg")
    with open_page(run) as client:
        answer = client.get("picture/0")
    assert answer.status_code == 404
    assert "out of the folder" in answer.json()["error"]
    run = write_run(tmp_path / "two", pictures=2)
    photos = tmp_path / "two" / "photos"
    os.remove(photos / "0001.jpg")
    (photos / "0001.jpg").symlink_to(secret)
    with open_page(run) as client:
        assert client.get("picture/0").status_code == 200
        answer = client.get("picture/1")
    assert answer.status_code == 404
    assert "a link" in answer.json()["error"]


def test_a_link_to_what_the_run_read_is_followed(tmp_path):
    from dataclasses import replace

    import numpy as np

    from mca_jax.data.decode import content_digest
    from mca_jax.data.sources import file_salts
    from mca_jax.model.result import read_result

    run = write_run(tmp_path, pictures=1)
    picture, moved = tmp_path / "photos" / "0000.jpg", tmp_path / "moved.jpg"
    picture.rename(moved)
    picture.symlink_to(moved)
    result = read_result(run)
    digests = np.zeros((120, 32), np.uint8)
    own = content_digest(moved.read_bytes(), file_salts()[0])
    digests[0] = np.frombuffer(own, np.uint8)
    replace(result, digests=digests).save(run)
    with open_page(run) as client:
        assert client.get("picture/0").status_code == 200
    moved.unlink()
    crop(5).save(moved, "JPEG")
    with open_page(run) as client:
        assert client.get("picture/0").status_code == 404


def test_names_that_are_html_stay_text(own):
    answer = edit(own, "rename", group=0, name=HTML)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["groups"][0]["name"] == HTML
    # The page holds no name at all; its script sets text.
    assert HTML not in own.get("").text
    assert "innerHTML" not in own.get("review.js").text


def test_edits_by_hand(own):
    state = edit(own, "rename", group=0, name="mine").json()
    assert state["groups"][0]["name"] == "mine"
    assert state["undo"].endswith("to mine")
    state = edit(own, "merge", groups=[1, 0]).json()
    assert [(each["id"], each["size"]) for each in state["groups"]] == [
        *((0, 60), (2, 30), (3, 30))
    ]
    # The name is that of what the others were merged into.
    assert state["groups"][0]["name"] != "mine"
    state = edit(own, "split", group=0).json()
    parts = [each for each in state["groups"] if each["id"] > 3]
    assert sorted(each["size"] for each in parts) == [30, 30]
    assert len({each["name"] for each in state["groups"]}) == 4
    rows = own.get("ask/rows", params={"group": 2}).json()
    chosen = [image["row"] for image in rows["images"][:5]]
    state = edit(own, "move", rows=chosen, into=3).json()
    assert state["placed"] == 5
    state = edit(own, "move", rows=chosen[:2]).json()
    made = next(each for each in state["groups"] if each["size"] == 2)
    assert made["guess"]
    state = edit(own, "mark", rows=chosen[:1], mark="outlier").json()
    assert state["nowhere"] == 1
    assert own.get("ask/rows?group=-1").json()["images"][0]["row"] == chosen[0]
    state = edit(own, "mark", rows=chosen[:2], mark="duplicate").json()
    assert own.get("ask/duplicates").json()["total"] == 2
    while state["undo"]:
        state = edit(own, "undo").json()
    assert [each["size"] for each in state["groups"]] == [30] * 4
    assert not state["placed"]


def test_an_edit_brings_the_images_that_a_window_shows(own):
    rows = [image["row"] for image in own.get("ask/rows?group=0").json()["images"]]
    show = {"group": 0, "order": "unsure", "limit": 10}
    answer = edit(own, "move", rows=rows[:2], into=1, show=show).json()
    after = own.get("ask/rows?group=0&order=unsure&limit=10").json()
    assert answer["shown"] == after
    assert answer["shown"]["total"] == 28
    for show in ({"group": 77}, {"group": 0, "limit": "x"}, {"group": [0]}, 5, None):
        answer = edit(own, "rename", group=0, name=f"name {show}"[:40], show=show)
        assert answer.status_code == 200
        assert "shown" not in answer.json()


def test_not_this_goes_to_the_next_likeliest_group_and_never_back(own):
    row = own.get("ask/rows?group=0").json()["images"][0]["row"]
    seen = [0]
    for _ in range(4):
        edit(own, "refuse", rows=[row])
        seen.append(own.get(f"ask/like?row={row}").json()["images"][0]["group"])
    assert sorted(seen) == [-1, 0, 1, 2, 3]
    assert seen[-1] == -1


def test_the_tree_is_cut_and_split_along(own):
    tree = own.get("ask/tree").json()
    assert tree["base"] == 4
    assert tree["nodes"][0]["size"] == 120
    state = edit(own, "cut", num_groups=3).json()
    sizes = sorted(each["size"] for each in state["groups"])
    assert sizes == [30, 30, 60]
    kept = [each for each in state["groups"] if each["size"] == 30]
    assert all(each["id"] < 4 for each in kept)
    whole = next(each for each in state["groups"] if each["size"] == 60)
    state = edit(own, "split", group=whole["id"]).json()
    assert sorted(each["size"] for each in state["groups"]) == [30] * 4
    names = {node["name"] for node in tree["nodes"]}
    assert {each["name"] for each in state["groups"]} <= names
    assert edit(own, "cut", num_groups=1).status_code == 400


def test_pages_of_a_group(page):
    every = page.get("ask/rows?group=1&limit=500").json()
    assert every["total"] == 30
    parts = [
        image["row"]
        for offset in range(0, 30, 8)
        for image in page.get(f"ask/rows?group=1&offset={offset}&limit=8").json()[
            "images"
        ]
    ]
    assert parts == [image["row"] for image in every["images"]]
    sure = [image["confidence"] for image in every["images"]]
    assert sure == sorted(sure, reverse=True)
    turned = page.get("ask/rows?group=1&order=unsure&limit=500").json()
    assert [image["row"] for image in turned["images"]] == parts[::-1]
    for wrong in ("group=9", "group=x", "group=1&limit=0", "group=1&limit=501"):
        assert page.get(f"ask/rows?{wrong}").status_code == 400
    for wrong in ("group=1&offset=-1", "group=1&order=odd"):
        assert page.get(f"ask/rows?{wrong}").status_code == 400


def test_like_a_picture_and_like_a_word(page):
    row = page.get("ask/rows?group=2").json()["images"][0]["row"]
    found = page.get(f"ask/like?row={row}").json()["images"]
    assert found[0]["row"] == row
    assert {image["group"] for image in found[:25]} == {2}
    name = next(
        each["name"]
        for each in page.get("ask/state").json()["groups"]
        if each["id"] == 2
    )
    found = page.get("ask/word", params={"text": name}).json()["images"]
    assert {image["group"] for image in found[:25]} == {2}
    answer = page.get("ask/word?text=submarine")
    assert answer.status_code == 400
    assert "no encoder" in answer.json()["error"]
    assert page.get("ask/word?text=").status_code == 400


def test_suggestions_begin_with_the_group_s_own_nouns(page):
    for group in page.get("ask/state").json()["groups"]:
        names = page.get(f"ask/suggest?group={group['id']}").json()["names"]
        assert names[0] == group["name"]


def test_two_windows(own):
    version = own.get("ask/version").json()["version"]
    first = {"version": version, "action": "rename", "group": 0, "name": "first"}
    second = {"version": version, "action": "rename", "group": 1, "name": "second"}
    assert own.post("tell/edit", json=first).status_code == 200
    stale = own.post("tell/edit", json=second)
    assert stale.status_code == 409
    answer = stale.json()
    assert "Another window" in answer["error"]
    assert answer["state"]["groups"][0]["name"] == "first"
    second["version"] = answer["state"]["version"]
    state = own.post("tell/edit", json=second).json()
    names = [each["name"] for each in state["groups"][:2]]
    assert names == ["first", "second"]


def test_windows_at_once_lose_nothing(own):
    from concurrent.futures import ThreadPoolExecutor

    def rename(number):
        """Try until nobody was faster."""
        for attempt in range(1000):
            version = own.get("ask/version").json()["version"]
            body = {"version": version, "action": "version", "name": f"v{number}"}
            status = own.post("tell/edit", json=body).status_code
            if status == 200:
                return attempt
            assert status == 409
        raise AssertionError("never its turn")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rename, range(12)))
    state = own.get("ask/state").json()
    assert sorted(state["versions"]) == sorted(f"v{number}" for number in range(12))
    assert state["version"] == 12


def test_versions_are_compared(own):
    edit(own, "version", name="before")
    rows = [image["row"] for image in own.get("ask/rows?group=2").json()["images"]]
    edit(own, "move", rows=rows[:3], into=3)
    compared = own.get("ask/compare?first=before&second=").json()
    assert sorted(image["row"] for image in compared["images"]) == sorted(rows[:3])
    assert compared["groups"] == [4, 4]
    assert [flow["count"] for flow in compared["flows"]] == [3]
    assert own.get("ask/compare?first=none").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"action": "rename", "group": 0},
        {"action": "merge", "groups": []},
        {"action": "merge", "groups": [[1], 0]},
        {"action": "merge"},
        {"action": "move", "rows": [10**30]},
        {"action": "move", "rows": [-1]},
        {"action": "move", "rows": {"a": 1}},
        {"action": "refuse", "rows": [500]},
        {"action": "refuse", "rows": "x"},
        {"action": "split", "group": 0, "parts": 1},
        {"action": "split", "group": 0, "parts": "2"},
        {"action": "split", "group": {}, "parts": 2},
        {"action": "cut", "num_groups": 10**9},
        {"action": "learn", "rows": [], "into": [], "learned": "x"},
        {"action": "learn"},
        {"action": "undo"},
        {"action": []},
        {},
    ],
)
def test_nonsense_changes_nothing(page, body):
    answer = page.post("tell/edit", json={"version": 0, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert page.get("ask/version").json() == {"version": 0}


def test_what_was_learnt_is_shown_before_it_is_taken(tmp_path):
    import mca_jax

    run = write_run(tmp_path)
    with open_page(run) as own:
        answer = own.post("tell/learn", json={"version": 0})
        assert answer.status_code == 400
        assert "nothing to learn from" in answer.json()["error"]
        rows = [image["row"] for image in own.get("ask/rows?group=0").json()["images"]]
        edit(own, "move", rows=rows[:8], into=1)
        edit(own, "mark", rows=rows[8:9], mark="outlier")
        assert own.post("tell/learn", json={"version": 0}).status_code == 409
        lesson = own.post("tell/learn", json={"version": 2}).json()
        assert "move" in lesson["text"]
        assert sum(flow["count"] for flow in lesson["flows"]) == lesson["total"]
        before = own.get("ask/state").json()
        assert before["version"] == 2
        state = edit(own, "learn").json()
        assert state["version"] == 3
        moved = own.get("ask/compare?first=the run").json()
        assert {image["row"] for image in moved["images"]} >= set(rows[:9])
        # What was said holds.
        said = {image["row"]: image["group"] for image in moved["images"]}
        assert {said[row] for row in rows[:8]} == {1}
        assert said[rows[8]] == -1
        sizes = [each["size"] for each in state["groups"]]
        assert edit(own, "learn").status_code == 400
        again = edit(own, "undo").json()
        assert again["groups"] == before["groups"]
        assert edit(own, "redo").json()["groups"] == state["groups"]
    # Python sees it, with the network that was trained on it.
    result = mca_jax.load_result(run)
    sizes = [each for each in (*sizes, state["nowhere"]) if each]
    assert [each.size for each in result.clusters if each.size] == sizes
    assert any(each["action"] == "learn" for each in result.model.edits)


def test_questions_are_asked_once(own):
    asked = own.post("tell/questions", json={}).json()["questions"]
    assert 0 < len(asked) <= 20
    assert all(each["image"]["row"] == each["rows"][0] for each in asked)
    which = [each for each in asked if not each["same"]]
    same = [each for each in asked if each["same"]]
    known = {each["id"] for each in own.get("ask/state").json()["groups"]}
    for each in which:
        # A picture, and one that stands for each group: every group once.
        assert 2 <= len(each["groups"]) == len(each["rows"]) - 1 <= 6
        assert set(each["groups"]) <= known
        assert len(set(each["groups"])) == len(each["groups"])
    # What an answer makes is an edit like any other.
    row = which[0]["rows"][0]
    state = edit(own, "move", rows=[row], into=which[0]["groups"][-1]).json()
    assert state["said"] == 1
    state = edit(own, "answer", rows=same[0]["rows"], same=False).json()
    skipped = which[1]["rows"]
    body = {"skip": [[skipped[0], skipped[1]]]}
    more = own.post("tell/questions", json=body).json()["questions"]
    assert not {row, skipped[0]} & {
        each["rows"][0] for each in more if not each["same"]
    }
    pairs = [set(each["groups"]) for each in more if each["same"]]
    assert set(same[0]["groups"]) not in pairs
    for wrong in ("x", [1], [[1]], [[1, 2, 3]], [[1, 500]]):
        assert own.post("tell/questions", json={"skip": wrong}).status_code == 400


def test_what_is_no_object_is_refused(page):
    for content in (b"", b"[]", b"{", b"[" * 100_000, b"\xff"):
        headers = {"content-type": "application/json"}
        answer = page.post("tell/edit", content=content, headers=headers)
        assert answer.status_code == 400
    assert page.post("tell/nothing", json={}).status_code == 404
    assert page.post("ask/state", json={}).status_code == 405


@pytest.mark.parametrize("format", ["csv", "links", "npz", "result"])
def test_export_goes_into_the_workdir(tmp_path, format):
    run = write_run(tmp_path, pictures=120)
    with open_page(run) as client:
        rows = [
            image["row"] for image in client.get("ask/rows?group=0").json()["images"]
        ]
        edit(client, "rename", group=0, name="../../<b>mine</b>")
        edit(client, "mark", rows=rows[:2], mark="outlier")
        before = {path for path in tmp_path.rglob("*") if "review" not in path.parts}
        answer = client.post("tell/export", json={"format": format})
        assert answer.status_code == 200, answer.json()
        assert "Written" in answer.json()["text"]
        assert client.post("tell/export", json={"format": "../x"}).status_code == 400
    after = {path for path in tmp_path.rglob("*") if "review" not in path.parts}
    assert after == before
    folder = run / "review" / "exports" / "0001"
    if format == "csv":
        text = (folder / "assignments.csv").read_text("utf-8")
        assert text.count("none of these,placed by hand") == 2
        assert text.count("<b>mine</b>") == 28
    elif format == "links":
        names = sorted(path.name for path in (folder / "clusters").iterdir())
        assert "0000-b-mine-b" in names
        assert len(list((folder / "clusters" / "none-of-these").iterdir())) == 2
    elif format == "result":
        import mca_jax

        again = mca_jax.load_result(folder / "result")
        assert [each.size for each in again.clusters] == [28, 30, 30, 30, 2]
