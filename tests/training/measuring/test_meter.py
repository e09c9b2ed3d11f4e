"""How fast a run goes is counted over all processes."""

from types import SimpleNamespace

from faceid.training.measuring.meter import Meter


def test_tokens_are_those_of_every_process_and_utilisation_is_of_one():
    meter = Meter(peak=2.0)
    for seconds in (1.0, 3.0):
        meter.add(SimpleNamespace(data_wait_s=0.5, tokens=100, flops=4e12), seconds)
    values = meter.take(processes=4)
    assert values["speed/tokens_per_s"] == 100 * 2 * 4 / 4.0
    assert (values["time/step_s"], values["time/data_wait_s"], values["speed/mfu"]) == (2.0, 0.5, 1.0)
    meter.add(SimpleNamespace(data_wait_s=0.0, tokens=7, flops=0.0), 1.0)
    assert meter.take(processes=1)["speed/tokens_per_s"] == 7.0
