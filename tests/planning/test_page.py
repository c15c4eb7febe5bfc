"""The page of plans holds the table of those that stand in `benchmarks/results/`."""

from benchmarks import plans


def test_the_table_is_that_of_the_results():
    text = plans.PAGE.read_text()
    assert plans.page(text, plans.table()) == text
    assert plans.page(text, "another\n") != text


def test_plans_can_be_made():
    for task in plans.PLANS.values():
        task.check()
