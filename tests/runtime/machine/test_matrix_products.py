"""Products are as exact as asked for, and by whichever library is the faster one where that makes no difference."""

import pytest
import torch

from metalearn_cli.runtime.machine import matrix_products
from metalearn_cli.runtime.machine.matrix_products import is_amd, products_are_exact, products_in

HERE = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def found():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture
def onednn(monkeypatch, request):
    monkeypatch.setattr(matrix_products, "by_onednn", lambda: request.param)


@pytest.mark.parametrize("onednn", [True, False], indirect=True)
@pytest.mark.parametrize(("asked", "known"), [("tf32", ("high", True)), ("bfloat16", ("medium", True))])
def test_products_are_as_asked_for_and_only_inside(asked, known, onednn):
    with products_in(asked):
        assert found() == known
    assert found() == HERE


@pytest.mark.parametrize(("onednn", "known"), [(True, "medium"), (False, "highest")], indirect=["onednn"])
def test_float32_asks_for_what_is_exact_and_fast_here(onednn, known):
    with products_in("float32"):
        assert found() == (known, False)
    assert found() == HERE


def test_after_an_error_products_are_as_before():
    with pytest.raises(ZeroDivisionError), products_in("tf32"):
        _ = 1 / 0
    assert found() == HERE


def test_float32_is_exact_here_whatever_it_takes():
    generator = torch.Generator().manual_seed(1)
    with products_in("float32"):
        for rows, inner, columns in ((1, 2000, 3), (130, 70, 33), (64, 577, 640), (500, 500, 500)):
            a, b = (torch.randn(2, *shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
            expected = a.double() @ b.double()
            for product in (a @ b, torch.zeros_like(expected).float().baddbmm_(a, b), a[:1] @ b[:1]):
                away = (product - expected[: len(product)]).norm() / expected[: len(product)].norm()
                assert away < 1e-6


def test_products_rounded_to_bfloat16_would_be_noticed(monkeypatch):
    class Rounded(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, _types, args=(), kwargs=None):
            if function is torch.Tensor.matmul and args[0].dtype == torch.float32:
                args = [one.bfloat16().float() for one in args]
            return function(*args, **(kwargs or {}))

    assert products_are_exact("highest")
    with Rounded():
        assert not products_are_exact("highest")


def test_who_made_a_processor():
    assert is_amd("vendor_id\t: AuthenticAMD\ncpu family : 26")
    assert is_amd("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD")
    assert not is_amd("vendor_id\t: GenuineIntel")
    assert not is_amd("")
