import threading

import torch

from tests import problems


def test_body_then_head_equals_the_whole_network():
    network = problems.smooth_network()
    params, inputs = problems.for_tasks(2, network.initial()), torch.rand(2, 3, *problems.SHAPE)
    split = network.classify(params, network.features(params, inputs))
    torch.testing.assert_close(split, network(params, inputs))


def test_initial_parameters_are_copies():
    network = problems.smooth_network()
    network.initial()["head.bias"].add_(1)
    assert not torch.equal(network.initial()["head.bias"], network.initial()["head.bias"] + 1)
    assert torch.equal(network.initial()["head.bias"], problems.smooth_network().initial()["head.bias"])


def test_threads_with_other_parameters_do_not_disturb_each_other():
    network, inputs = problems.smooth_network(), torch.rand(1, 4, *problems.SHAPE)
    scaled = [{name: value[None] * (1 + k / 10) for name, value in network.initial().items()} for k in range(4)]
    expected = [network(params, inputs) for params in scaled]
    right = []

    def run(number: int) -> None:
        right.append(all(torch.equal(network(scaled[number], inputs), expected[number]) for _ in range(50)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4
