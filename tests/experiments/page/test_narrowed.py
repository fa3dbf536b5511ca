"""Results that are smaller than the paper's stand apart."""

from results_page import HERE, cells, section, trained, write

from experiments.document import page


def test_narrowed_rows_stand_apart_and_beside_no_number_of_the_paper(tmp_path):
    rows = [
        trained("ST", 0, 700, n=1000, epochs=10, place=HERE),
        trained("MODA", 0, 650, n=1000, epochs=10, place=HERE, cpu_s=550.0),
    ]
    write(tmp_path, "rq1-cifar10-resnet18-w0.25-e10.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    narrowed = section(text, "Narrowed")
    assert "## Full size" not in text
    assert "### cifar10, resnet18, width 0.25, 10 epochs" in narrowed
    assert "](#cifar10-resnet18-width-025-10-epochs): test accuracy ST 70.00 %, MODA 65.00 %." in text
    assert cells(narrowed, "approach")[4:] == ["processor s per epoch", "processor time, x ST"]
    assert cells(narrowed, "MODA") == ["65.00", "1,000", "1", "40.00", "55.00", "1.10"]
    assert "x86_64, 2 cores (2 threads)" in narrowed
    assert "90.94" not in narrowed


def test_narrowed_rows_of_a_gpu_compare_its_time(tmp_path):
    rows = [trained("ST", 0, 700, epochs=10), trained("MODA", 0, 650, epochs=10, wall_s=500.0, cpu_s=900.0)]
    write(tmp_path, "rq1-cifar10-resnet18-e10.jsonl", rows)
    narrowed = section(page(tmp_path, tmp_path, tmp_path), "Narrowed")
    assert cells(narrowed, "approach")[3:] == ["s per epoch", "time, x ST"]
    assert cells(narrowed, "MODA")[3:] == ["50.00", "1.25"]
