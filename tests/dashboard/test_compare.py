"""Tasks beside each other."""

import re

from training import figures, services
from training.states import Status


def done(make_task, name: str, *, metrics: dict, **fields):
    return make_task(name=name, status=Status.COMPLETED, result={"metrics": metrics}, **fields)


def config(leaves: int) -> dict:
    return {"task": {"model": {"class": "LGBModel", "kwargs": {"num_leaves": leaves, "seed": 7}}}}


def test_the_best_is_marked_and_only_differences_are_shown(browser, make_task):
    one = done(make_task, "one", metrics={"ic": 0.01, "max_drawdown": -0.3}, config=config(8))
    two = done(make_task, "two", metrics={"ic": 0.02, "max_drawdown": -0.5}, config=config(99))

    text = browser.get(f"/compare?tasks={one.id},{two.id}").content.decode()

    best = re.findall(r'class="number best">([^<]*)<', text)
    assert best == ["0.0200", "−30.00 %"]
    differences = text.partition("What differs in the workflows")[2]
    assert "task.<wbr>model.<wbr>kwargs.<wbr>num_leaves" in differences
    assert "<code>99</code>" in differences
    assert "seed" not in differences


def test_what_makes_figures_unfair_is_named(browser, make_task):
    one = done(make_task, "one", metrics={}, test_from="2018-01-01")
    other = done(make_task, "other", metrics={}, test_from="2019-01-01")
    newer = done(make_task, "newer", metrics={}, test_from="2018-01-01", dataset_version="v2")

    def told(*tasks):
        ids = ",".join(task.id for task in tasks)
        text = browser.get(f"/compare?tasks={ids}").content.decode()
        return re.findall("These tasks differ in ([a-z ]+):", text)

    assert told(one, other) == ["test period"]
    assert told(one, newer) == ["data"]
    assert told(other, newer) == ["data and test period"]


def test_module_paths_and_what_only_some_have_are_folded(browser, make_task):
    model = {"class": "LGBModel", "module_path": "qlib.gbdt", "kwargs": {"seed": 7, "leaves": 8}}
    linear = {"class": "LinearModel", "module_path": "qlib.linear", "kwargs": {"seed": 8}}
    one = done(make_task, "one", metrics={}, config={"task": {"model": model}})
    two = done(make_task, "two", metrics={}, config={"task": {"model": linear}})

    text = browser.get(f"/compare?tasks={one.id},{two.id}").content.decode()

    shown, _, folded = text.partition("What differs in the workflows")[2].partition("<details>")
    places = [re.findall(r"<code>(task[^ ]*)</code></th>", part) for part in (shown, folded)]
    # PostgreSQL keeps the keys of JSON in an order of its own.
    said = [sorted(place.replace("<wbr>", "") for place in part) for part in places]
    assert said == [
        ["task.model.class", "task.model.kwargs.seed"],
        ["task.model.kwargs.leaves", "task.model.module_path"],
    ]


def test_nothing_is_best_where_data_or_periods_differ(browser, make_task):
    one = done(make_task, "one", metrics={"ic": 0.01})
    two = done(make_task, "two", metrics={"ic": 0.02}, dataset="other")

    text = browser.get(f"/compare?tasks={one.id},{two.id}").content.decode()

    assert "do not compare fairly" in text
    assert "★" not in text
    assert 'class="number best"' not in text


def test_what_is_not_ones_own_is_left_out_and_said(browser, make_task, stranger):
    mine = [done(make_task, f"mine {n}", metrics={"ic": 0.01}) for n in range(2)]
    foreign = done(make_task, "foreign", metrics={"ic": 0.9}, owner=stranger)
    ids = ",".join(task.id for task in [*mine, foreign])

    text = browser.get(f"/compare?tasks={ids},task-x").content.decode()

    assert "2 of the tasks in the address are left out" in text
    assert "foreign" not in text


def test_a_task_that_is_not_completed_says_so(browser, make_task):
    one = done(make_task, "one", metrics={"ic": 0.01})
    other = make_task(name="other", status=Status.RUNNING)

    text = browser.get(f"/compare?tasks={one.id},{other.id}").content.decode()

    assert re.findall(r'<span class="status" data-status="(\w+)">', text) == ["running"]


def test_without_tasks_one_chooses_from_the_finished(browser, make_task):
    task = done(make_task, "finished", metrics={"ic": 0.01})
    make_task(name="waiting")

    text = browser.get("/compare").content.decode()

    assert task.id in text
    assert "waiting" not in text
    sent = browser.post("/tasks/act", {"deed": "compare", "task": [task.id, "b"]})
    assert sent.url == f"/compare?tasks={task.id},b"


def test_how_alike_predictions_are_stands_in_the_readers_order(browser, make_task):
    tasks = sorted((done(make_task, f"n{n}", metrics={}) for n in range(2)), key=lambda t: t.id)
    url = f"/compare?tasks={tasks[1].id},{tasks[0].id}"

    assert "A worker computes it" in browser.get(url).content.decode()
    answer = services.correlation(tasks)
    ids = [task.id for task in tasks]
    figures.keep(answer.key, value={"tasks": ids, "rank": [[1.0, 0.25], [0.25, 1.0]]})

    table = browser.get(url).content.decode().partition("Mean daily rank correlation")[2]
    rows = re.findall(r'<th scope="row">([^<]*)</th><td class="number">([^<]*)<', table)
    assert rows[:2] == [(tasks[1].name, "1.000"), (tasks[0].name, "0.2500")]
