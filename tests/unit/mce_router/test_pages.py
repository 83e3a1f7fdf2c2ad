import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mce_router import pages
from mce_router.metrics import SERIES
from mce_router.pages import FamilyKey, Page, UnreadablePage

ENDS = ("a", "b")


def read(text: str, container: str = "a", most: int = 100) -> Page:
    page = Page({"endpoint": "e", "container": container}, most)
    for line in text.split("\n"):
        page.add(line)
    return page


def shown(*texts: str, most: int = 100) -> str:
    """One page of a container for each text, called a, b, ..."""
    return "".join(pages.merged([read(text, chr(97 + index), most) for index, text in enumerate(texts)]))


def one(text: str) -> str:
    """The single sample line of a page."""
    lines = [line for line in shown(text).splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up 1", 'up{endpoint="e",container="a"} 1.0'),
        ("up{} 1 1700000000000", 'up{endpoint="e",container="a"} 1.0'),
        ('up{x="1",} 2', 'up{endpoint="e",container="a",x="1"} 2.0'),
        ('  up\t{ x = "1" , y="2" }\tNaN  ', 'up{endpoint="e",container="a",x="1",y="2"} NaN'),
        ('up{x="a\\"b\\\\c\\nd}"}-Inf', 'up{endpoint="e",container="a",x="a\\"b\\\\c\\nd}"} -Inf'),
        ('up{x="1"} 3 # {trace_id="t"} 1 1', 'up{endpoint="e",container="a",x="1"} 3.0'),
        ('up{x="",y="é"} 1e3', 'up{endpoint="e",container="a",y="é"} 1000.0'),
    ],
)
def test_a_sample_is_shown_with_our_labels_and_without_time_and_exemplar(line: str, expected: str) -> None:
    assert one(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up 1 2 3",
        "up 1 NaN",
        "up 1e999",
        "up 1_0",
        "up 0x10",
        "up \u0661",
        "up1",
        "up+1",
        "1up 1",
        "u-p 1",
        "é 1",
        '{"up"} 1',
        "up{x} 1",
        "up{x=1} 1",
        'up{x="1" y="2"} 1',
        'up{,x="1"} 1',
        'up{"x"="1"} 1',
        'up{x:y="1"} 1',
        'up{x="\\q"} 1',
        'up{x="1} 1',
        'up{x="1"}} 1',
        'up{x="\0"} 1',
        "up 1\r",
        "up 1\x85",
        '# HELP "up" text',
        "# TYPE up gauge\r",
        "<html>",
        "up" * 10000 + " 1",
    ],
)  # fmt: skip
def test_a_line_that_is_not_of_the_format_ends_the_page_and_is_not_quoted(line: str) -> None:
    with pytest.raises(UnreadablePage) as caught:
        read(f"good 1\n{line}")
    assert str(caught.value).startswith("line 2 is ")
    assert line not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "mce_inflight 1",
        "mce_container_healthy_bucket 1",
        'up{__name__="mce_inflight"} 1',
        'up{x="1",x="2"} 1',
        '# TYPE h histogram\nh_bucket{le="much"} 1',
        '# TYPE h histogram\nh_bucket{le="1e999"} 1',
        "# TYPE h histogram\nh_bucket 1",
        "# TYPE s summary\ns 1",
        '# TYPE s summary\ns_sum{quantile="x"} 1',
    ],
)
def test_a_series_that_is_ours_or_would_break_a_reader_is_counted_and_not_shown(line: str) -> None:
    page = read(f"good 1\n{line}")
    assert (page.series, page.dropped) == (1, 1)
    assert [key.name for key in page.families] == ["good"]


def test_labels_of_ours_win_and_theirs_get_a_prefix_that_is_free() -> None:
    line = one('up{container="b",exported_container="x",endpoint="",job="j"} 1')
    assert line == ('up{endpoint="e",container="a",exported_container="x",exported_exported_container="b",job="j"} 1.0')


def test_the_same_series_twice_is_shown_once_however_it_is_written() -> None:
    page = read('up{x="1",y="2"} 1\nup{y="2",x="1",z=""} 2\n# TYPE up gauge\nup{y="2",x="1"} 3')
    assert (page.series, page.dropped) == (1, 2)
    page = read("# TYPE h histogram\nh_count 1\n# TYPE h_count gauge\nh_count 2")
    assert (page.series, page.dropped) == (1, 1)


def test_a_family_that_does_not_fit_goes_as_a_whole_and_the_next_small_one_fits() -> None:
    buckets = "\n".join(f'h_bucket{{le="{bound}"}} 1' for bound in range(5))
    page = read(f"one 1\n# TYPE h histogram\n{buckets}\nh_sum 1\nlast 1\nh_count 1", most=4)
    assert [key.name for key in page.families] == ["one", "last"]
    assert (page.series, page.dropped) == (2, 7)
    assert read("\n".join(f"m{number} 1" for number in range(9)), most=4).dropped == 5


def test_families_of_several_containers_stand_together_under_one_type_and_the_first_help() -> None:
    text = "# TYPE up gauge\nup 1\nother 1\n"
    assert shown(text, "# HELP up What it is.\n" + text) == (
        "# HELP up What it is.\n# TYPE up gauge\n"
        'up{endpoint="e",container="a"} 1.0\nup{endpoint="e",container="b"} 1.0\n'
        "# TYPE other untyped\n"
        'other{endpoint="e",container="a"} 1.0\nother{endpoint="e",container="b"} 1.0\n'
    )


@pytest.mark.parametrize("other", ["# TYPE h gauge\nh 5", "h 5", "h_count 5", "# TYPE h_sum counter\nh_sum 5"])
def test_what_two_containers_type_differently_is_shown_untyped_and_nothing_is_lost(other: str) -> None:
    histogram = '# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_sum 2\nh_count 3'
    page = shown(other, histogram)
    assert " histogram" not in page
    assert {line.rpartition(" ")[2] for line in page.splitlines() if line[0] != "#"} == {"1.0", "2.0", "3.0", "5.0"}
    assert_well_formed(page)


def test_a_type_that_the_format_does_not_have_is_none() -> None:
    assert "# TYPE up untyped\n" in shown("# TYPE up stateset\nup 1")


def test_a_family_that_a_page_comes_back_to_is_in_one_piece() -> None:
    page = shown("# TYPE a gauge\na 1\nb 1\na{x='1'} 1".replace("'", '"'))
    assert page.index("a{") < page.index('x="1"') < page.index("# TYPE b")


def assert_well_formed(page: str) -> None:
    """What promtool and other readers hold against a page: a family split or typed twice, a series twice."""
    types = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    series = [line.rpartition(" ")[0] for line in page.split("\n") if line and line[0] != "#"]
    assert len(series) == len(set(series))
    in_family = dict.fromkeys(types, 0)
    current = ""
    for line in page.split("\n"):
        if line.startswith("# TYPE "):
            current = line.split()[2]
        elif line and line[0] != "#":
            assert line.startswith(current)
            in_family[current] += 1
    assert all(in_family.values())
    parsed = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    assert len(parsed) == len(series)
    for sample in parsed:
        assert sample.labels["endpoint"] == "e"
        assert sample.labels["container"] in ENDS
        assert not sample.name.startswith("mce_")
        assert sample.timestamp is None


_names = st.sampled_from(["a", "a_sum", "a_count", "a_bucket", "a_total", "mce_x", "b", ":c"])
_texts = st.text(st.characters(codec="utf-8"), max_size=6)
_label = st.tuples(
    st.sampled_from(["le", "quantile", "container", "endpoint", "exported_container", "__name__", "x"]),
    st.one_of(st.sampled_from(["1", "+Inf", "a", "b", ""]), _texts.map(lambda text: text.replace('"', '\\"'))),
)
_lines = st.one_of(
    st.builds(
        lambda name, pairs, value: name + "{" + ",".join(f'{label}="{text}"' for label, text in pairs) + "} " + value,
        _names,
        st.lists(_label, max_size=3),
        st.sampled_from(["1", "NaN", "-inf", "1e3 5", "1 # {} 2"]),
    ),
    st.builds("# TYPE {} {}".format, _names, st.sampled_from(["gauge", "counter", "histogram", "summary", "x", ""])),
    st.builds("# HELP {} {}".format, _names, _texts),
    _texts,
)


@given(st.lists(st.lists(_lines, max_size=12), min_size=2, max_size=2), st.integers(1, 12))
def test_whatever_containers_say_the_page_is_well_formed_and_each_series_is_its_containers(
    texts: list[list[str]], most: int
) -> None:
    read_pages = []
    for name, lines in zip(ENDS, texts, strict=True):
        page = Page({"endpoint": "e", "container": name}, most)
        for line in lines:
            try:
                for part in line.split("\n"):
                    page.add(part)
            except UnreadablePage:
                continue
        assert page.series <= most
        assert page.series == sum(len(family.series) for family in page.families.values())
        read_pages.append(page)
    count = sum(page.series for page in read_pages)
    text = "".join(pages.merged(read_pages))
    assert sum(line[:1] not in {"", "#"} for line in text.split("\n")) == count
    assert_well_formed(text)


@pytest.mark.parametrize(
    "line",
    [
        'a{b="' + "\\" * 16000,
        'a{b="' + '\\"' * 8000,
        "a{" + ",".join(f'l{number}="\\n"' for number in range(1200)) + ",,} 1",
        "a" + " " * 16000 + "x",
        "a " + "9" * 16000 + "x",
        "a 1" + " 1" * 8000,
        "# HELP " + "a " * 8000 + "\r",
    ],
)
def test_the_longest_line_takes_no_time(line: str) -> None:
    began = time.process_time()
    with pytest.raises(UnreadablePage):
        read(line)
    assert time.process_time() - began < 0.2


def test_our_own_series_all_have_our_prefix_so_that_no_container_can_have_one() -> None:
    assert all(series.name.startswith(pages.OWN_PREFIX) for series in SERIES)


def test_a_name_is_of_the_family_whose_type_stands_before_it() -> None:
    page = read('x_sum 1\n# TYPE x summary\nx_sum{y="1"} 1\nx_count 1\nx{quantile="0.5"} 1\nx_bucket 1')
    assert set(page.families) == {FamilyKey("x_sum", "untyped"), FamilyKey("x", "summary"),
                                  FamilyKey("x_bucket", "untyped")}  # fmt: skip
