"""Order and seeds are pure functions."""

from faceid.data.order import epoch_order, hold_out, seed_for


def test_an_epoch_is_a_permutation_and_repeats_exactly():
    order = epoch_order(seed=7, epoch=3, count=100)
    assert sorted(order) == list(range(100)) and order == epoch_order(7, 3, 100)


def test_epochs_and_seeds_differ():
    orders = [tuple(epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_the_order_is_the_same_on_every_machine():
    # Stored once; a change here breaks every resume.
    assert epoch_order(42, 0, 8) == EXPECTED_ORDER
    assert seed_for(42, 17, "noise") == EXPECTED_SEED


def test_seeds_are_63_bits_and_differ_by_every_part():
    seeds = {seed_for(s, g, p) for s in range(5) for g in range(5) for p in ("noise", "timestep")}
    assert len(seeds) == 50 and all(0 <= seed < 2**63 for seed in seeds)


def test_index_and_seed_do_not_run_into_each_other():
    assert seed_for(1, 23, "x") != seed_for(12, 3, "x")


def test_held_out_dancers_stay_held_out_when_clips_of_others_are_added():
    few = [f"d{number:02d}" for number in range(20)]
    held = hold_out(few * 3, 4, seed=1)
    assert len(set(held)) == 4 and set(held) <= set(few)
    assert hold_out(reversed(few), 4, seed=1) == held != hold_out(few, 4, seed=2)
    # A newcomer may take a place, but never moves the others about.
    assert len(set(hold_out([*few, "new"], 4, seed=1)) & set(held)) >= 3
    assert hold_out(few, 0, seed=1) == []


EXPECTED_ORDER = [7, 1, 5, 2, 3, 0, 6, 4]
EXPECTED_SEED = 9211349785673941953
