"""When a subset gets a model of its own: worked by hand, and monotone in what it hangs on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda_core.errors import InvalidInput
from moda_core.inference.crossing import ForwardLine, ForwardTimes, Traffic, crossing_images, pays, saving_ms

LINE = ForwardLine(fixed_ms=6, image_ms=10)
times = st.floats(0, 100)
shares = st.floats(0, 1)
lines = st.builds(ForwardLine, times, times)
traffics = st.builds(Traffic, images=st.floats(0, 1e5), share=shares, batch=st.floats(1, 64))
pairs = st.tuples(shares, shares).map(sorted)


def test_half_of_a_batch_saves_its_images_and_pays_the_fixed_part_again():
    """10 turns of 8: mixed 86 -> 46 for the others, and 6 + 0.2 * 10 * 4 = 14 for its own: 26 a turn."""
    assert saving_ms(LINE, Traffic(images=80, share=0.5, batch=8), 0.2, masking=0) == pytest.approx(260)


def test_alone_it_saves_the_operations_that_it_does_not_need():
    """5 turns of 1: 16 -> 6 + 2 = 8."""
    assert saving_ms(LINE, Traffic(images=5, share=1, batch=1), 0.2, masking=0) == pytest.approx(40)


def test_a_rare_subset_pays_the_fixed_part_whenever_it_comes():
    """One image in every tenth turn of 10, 100 turns: it saves 10 - 6 - 0.2 * 10 = 2 each time."""
    assert saving_ms(LINE, Traffic(images=1000, share=0.01, batch=10), 0.2, masking=0) == pytest.approx(20)


def test_composing_must_be_earned_once():
    rare = Traffic(images=1000, share=0.01, batch=10)
    assert not pays(LINE, rare, 0.2, compose_ms=21, masking=0)
    assert pays(LINE, rare, 0.2, compose_ms=19, masking=0)
    assert pays(LINE, rare, 0.2, compose_ms=21, at_hand=True, masking=0)


def test_on_a_device_that_takes_as_long_for_one_image_as_for_all_nothing_is_worth_its_own_turn():
    flat = ForwardLine(fixed_ms=1, image_ms=0)
    assert crossing_images(flat, 0.01) == math.inf
    assert not pays(flat, Traffic(images=1e6, share=0.5, batch=32), 0.01, compose_ms=0, at_hand=True)


def test_the_lines_cross_where_the_rule_says():
    crossing = crossing_images(LINE, 0.2, masking=0.05)
    assert crossing == pytest.approx(6 / 8.5)

    def saves(images):
        return saving_ms(ForwardLine(60, 10), Traffic(images=320, share=images / 32, batch=32), 0.2, 0.05) > 0

    assert crossing_images(ForwardLine(60, 10), 0.2, 0.05) == pytest.approx(60 / 8.5)
    assert (saves(7), saves(8)) == (False, True)


@given(lines, traffics, pairs, shares, times)
def test_a_larger_share_never_demotes(line, traffic, of_all, ratio, compose_ms):
    less, more = (Traffic(images=traffic.images, share=share, batch=traffic.batch) for share in of_all)
    assert not decided(line, less, ratio, compose_ms) or decided(line, more, ratio, compose_ms * (1 - 1e-9))


@given(lines, traffics, shares, st.tuples(times, times).map(sorted))
def test_dearer_composing_never_promotes(line, traffic, ratio, costs):
    cheap, dear = costs
    assert not pays(line, traffic, ratio, dear) or pays(line, traffic, ratio, cheap)


@given(lines, traffics, pairs, times)
def test_a_larger_model_is_never_promoted_where_a_smaller_is_not(line, traffic, ratios, compose_ms):
    small, large = ratios
    assert not decided(line, traffic, large, compose_ms) or decided(line, traffic, small, compose_ms * (1 - 1e-9))


@given(lines, traffics, shares, times, st.floats(1, 10))
def test_more_of_the_same_traffic_never_demotes(line, traffic, ratio, compose_ms, times_more):
    more = Traffic(images=traffic.images * times_more, share=traffic.share, batch=traffic.batch)
    assert not decided(line, traffic, ratio, compose_ms) or decided(line, more, ratio, compose_ms * (1 - 1e-9))


@given(lines, traffics, shares, times)
def test_what_is_at_hand_is_never_dearer_than_what_must_be_composed(line, traffic, ratio, compose_ms):
    assert not pays(line, traffic, ratio, compose_ms) or pays(line, traffic, ratio, compose_ms, at_hand=True)


def decided(line, traffic, ratio, compose_ms):
    """The rule, apart from rounding around zero."""
    return (
        saving_ms(line, traffic, ratio) > compose_ms + 1e-6
        if compose_ms == 0
        else pays(line, traffic, ratio, compose_ms)
    )


@given(st.floats(0.01, 50), st.floats(0.01, 50))
def test_times_on_a_line_give_the_line(fixed_ms, image_ms):
    learned = ForwardTimes()
    for images in (1, 2, 4, 8, 16, 32):
        learned = learned.observed(images, fixed_ms + image_ms * images)
    line = learned.line()
    assert (line.fixed_ms, line.image_ms) == (pytest.approx(fixed_ms, rel=1e-6), pytest.approx(image_ms, rel=1e-6))


@given(st.dictionaries(st.integers(1, 64), st.floats(0, 1e3), min_size=2))
def test_no_part_of_a_line_is_negative(seen):
    learned = ForwardTimes()
    for images, ms in seen.items():
        learned = learned.observed(images, ms)
    line = learned.line()
    assert line is None or (line.fixed_ms >= 0 and line.image_ms >= 0)


def test_one_size_alone_is_no_line_and_times_are_forgotten():
    learned = ForwardTimes().observed(8, 100)
    assert learned.line() is None
    for _ in range(100):
        learned = learned.observed(8, 50)
    assert learned.means[8] == pytest.approx((8, 50), rel=1e-3)


def test_batches_between_two_powers_are_counted_as_what_they_are():
    learned = ForwardTimes()
    for images in (1, 3, 5, 6, 7, 23):
        learned = learned.observed(images, 6 + 10 * images)
    assert sorted(learned.means) == [1, 4, 8, 32]
    assert (learned.line().fixed_ms, learned.line().image_ms) == (pytest.approx(6), pytest.approx(10))


@pytest.mark.parametrize(
    "wrong", [{"images": -1}, {"share": 1.5}, {"share": -0.1}, {"batch": 0.5}, {"images": math.inf}]
)
def test_traffic_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidInput):
        Traffic(**({"images": 1, "share": 0.5, "batch": 1} | wrong))


@pytest.mark.parametrize(("images", "ms"), [(0, 1), (1, -1), (1, math.nan), (1, math.inf)])
def test_what_is_no_forward_pass_is_refused(images, ms):
    with pytest.raises(InvalidInput):
        ForwardTimes().observed(images, ms)
