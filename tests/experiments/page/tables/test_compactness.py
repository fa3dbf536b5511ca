"""Compactness, worked by hand."""

from results_page import cells, modules, reused, section, write

from experiments.document import page


def test_table_3_compares_sizes_as_the_paper_counts_them(tmp_path):
    rows = [reused("MODA", [0, 1], 940), reused("MODA-", [0, 1], 950), modules("MODA", 0.07), modules("MODA-", 0.1)]
    write(tmp_path, "rq3-cifar10-resnet18-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ3")
    # 0.08 of 0.11 and 0.045 of 0.06
    own = ["94.11", "94.00", "-0.11", "0.081", "0.080", "-0.001", "31.84", "27.27", "0.055", "0.045", "-0.010", "20.61"]
    own += ["25.00", "0.070", "1", "1,000", "1"]
    assert cells(text, "resnet18, cifar10, MODA") == own
