"""Replacement, worked by hand."""

from results_page import cells, replaced, section, write

from experiments.document import page


def test_table_2_shows_every_cell_with_the_papers(tmp_path):
    rows = [
        replaced("MODA", "airplane", (500, 4000), (600, 3950), initial="identity"),
        replaced("MODA", "airplane", (500, 4000), (580, 4000), initial="identity", seed=1),
        replaced("MODA", "airplane", (500, 4000), (100, 1000), initial="normal"),
        replaced("CNNSplitter", "airplane", (500, 4000), (490, 4100)),
        *(replaced("MODA", name, (500, 4000), (500, 4000), initial="identity") for name in ("automobile", "bird", "cat", "deer")),
    ]  # fmt: skip
    write(tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(text, "overfitted, vgg16, MODA: paper")[0] == "+8.50 / -0.22"
    ours = cells(text, "overfitted, vgg16, MODA: ours")
    assert ours == ["+9.00 / -0.50", *["+0.00 / +0.00"] * 4, "+1.80 / -0.10", "1 of 5", "4.00", "2"]
    assert cells(text, "overfitted, vgg16, MODA: difference")[0] == "+0.50 / -0.28"
    assert cells(text, "overfitted, vgg16, MODA, from N(0, 0.01): ours")[0] == "-40.00 / -60.00"
    assert cells(text, "overfitted, vgg16, CNNSplitter: ours")[:2] == ["-1.00 / +2.00", ""]
    assert "1,000 and 5,000" in text


def test_a_target_that_is_not_measured_yet_leaves_its_own_cell_empty(tmp_path):
    write(
        tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", [replaced("CNNSplitter", "cat", (500, 4000), (490, 4100))]
    )
    text = page(tmp_path, tmp_path, tmp_path)
    for part in ("Full size", "Not measured yet"):
        ours = cells(section(text, part), "overfitted, vgg16, CNNSplitter: ours")
        assert ours[:5] == ["", "", "", "-1.00 / +2.00", ""]
    assert "Lacking: vgg16 on cifar10, svhn; resnet18 on cifar10, svhn. To measure" in text


def test_weak_models_of_different_trainings_are_not_averaged(tmp_path):
    long = replaced("MODA", "cat", (500, 4000), (600, 4000), initial="identity")
    short = replaced("MODA", "cat", (500, 4000), (800, 4000), initial="identity") | {"weak_epochs": 20}
    write(tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", [long, short])
    write(tmp_path, "rq2-replacement-cifar10-vgg16-w0.25-e10.jsonl", [long, short])
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(section(text, "Full size"), "overfitted, vgg16, MODA: ours")[3] == "+10.00 / +0.00"
    whole = section(text, "cifar10, vgg16, width 1, 200 epochs")
    assert cells(whole, "overfitted (20 epochs), MODA")[0] == "+30.00 / +0.00"
    assert "(200 epochs)" not in whole
    narrowed = section(text, "cifar10, vgg16, width 0.25, 10 epochs")
    assert [cells(narrowed, f"overfitted ({epochs} epochs), MODA")[0] for epochs in (200, 20)] == [
        "+10.00 / +0.00",
        "+30.00 / +0.00",
    ]
