"""Pictures that commands draw with Matplotlib: attacks, curves of fits, batch sizes, paths of optimizers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from diffprog.cli._batch_size_study import Curves
from diffprog.cli._command_line import short
from diffprog.optimize import Explained, Fitted
from diffprog.optimize._page.families import Family

# Okabe and Ito's colors, which color-blind readers tell apart, and dashes for those that are near.
LINES = (
    ("#1d1c1a", "-"),
    ("#d55e00", "--"),
    ("#b0468b", ":"),
    ("#2b8fc7", "-."),
    ("#0059a8", "-"),
    ("#00785a", "--"),
    ("#b07a00", "-"),
    ("#7a776f", ":"),
)


def magnified(perturbation: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a perturbation around gray until its largest value just fits; return the factor, too."""
    gain = max(0.5 / max(np.abs(perturbation).max(), 1e-9), 1)
    return np.clip(0.5 + gain * perturbation, 0, 1), gain


def attack_panels(panels: Sequence[tuple], note: str) -> np.ndarray:
    """Draw photograph + perturbation = result, and under each the classes that the network sees.

    Args:
      panels: three of (caption, image, classes), the classes as `Model.top` lists them.
      note: line of text under the picture.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    figure = Figure(figsize=(12, 6), dpi=100, facecolor="white")
    width, gap, left = 0.29, 0.045, 0.02
    for index, (caption, image, top) in enumerate(panels):
        x = left + index * (width + gap)
        axes = figure.add_axes((x, 0.36, width, 0.58))
        axes.imshow(image, interpolation="nearest")
        axes.set_title(caption, fontsize=13)
        axes.axis("off")
        _bars(figure.add_axes((x, 0.09, width, 0.25)), top)
        if index:
            figure.text(x - gap / 2, 0.65, "+="[index - 1], fontsize=26, ha="center", va="center", color="#444444")
    figure.text(0.5, 0.035, note, fontsize=11, ha="center", va="center", color="#444444")
    return _pixels(figure)


def attack_curve(budgets: Sequence[str], series: dict[str, Sequence[float]], axis: str) -> np.ndarray:
    """Draw probabilities over budgets, a line for each class.

    Args:
      budgets: the budgets as text, from small to large.
      series: probabilities at the budgets, for one or two classes.
      axis: caption of the budgets.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for (name, values), color, marker in zip(series.items(), ("#0072B2", "#D55E00"), "os", strict=False):
        axes.plot(range(len(budgets)), 100 * np.asarray(values), color=color, marker=marker, label=short(name))
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set(xlabel=axis, ylabel="probability, %", ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _pixels(figure)


def fit_curves(fits: Sequence[tuple[str, int, bool, Any]]) -> np.ndarray:
    """Draw loss and test error over epochs: batch size by color and marker, momentum by dashes and hollow markers.

    Args:
      fits: (name, batch size, with momentum, curve) of each line; a curve has `epochs`, `train_loss` and
        `test_accuracy`.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    styles = {1440: ("#0072B2", "s"), 32: ("#D55E00", "o"), 1: ("#009E73", "^")}
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    loss, error = figure.subplots(1, 2)
    for index, (name, batch_size, momentum, fitted) in enumerate(fits):
        color, marker = styles[batch_size]
        every = max(1, len(fitted.epochs) // 7)
        dashes, face = ("--", "white") if momentum else ("-", color)
        style = dict(
            label=name,
            color=color,
            linewidth=1.6,
            linestyle=dashes,
            marker=marker,
            markersize=6,
            markerfacecolor=face,
            markevery=(index * every // 6, every),
        )
        loss.plot(fitted.epochs, fitted.train_loss, **style)
        error.plot(fitted.epochs, 100 * (1 - fitted.test_accuracy), **style)
    loss.set(title="Training loss", ylabel="mean cross-entropy, nats", yscale="log")
    error.set(title="Test error", ylabel="digits read wrongly, %", yscale="log")
    for axes in (loss, error):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("epochs (passes over the 1440 training digits)")
        axes.set_xlim(0, fits[0][-1].epochs[-1])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, handlelength=3.5
    )
    return _pixels(figure)


def batch_size_panels(curves: Sequence[Curves]) -> np.ndarray:
    """Draw test errors against examples, steps and seconds, a row for each data set: means, and one standard deviation.

    Args:
      curves: of each data set and batch size.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    titles = list(dict.fromkeys(curve.data for curve in curves))
    figure = Figure(figsize=(11, 3.6 * len(titles) + 0.6), dpi=120, layout="constrained", facecolor="white")
    grid = figure.subplots(len(titles), 3, squeeze=False, sharey="row")
    for curve in curves:
        row = titles.index(curve.data)
        style = {1: ("#009E73", "single example"), 32: ("#D55E00", "mini-batch of 32")}
        color, name = style.get(curve.batch_size, ("#0072B2", "full batch"))
        mean, spread = 100 * curve.test_error.mean(0), 100 * curve.test_error.std(0)
        axis = (curve.examples, curve.steps, np.median(curve.seconds, axis=0))
        for axes, x in zip(grid[row], axis, strict=True):
            axes.plot(x, mean, color=color, linewidth=1.7, label=name)
            axes.fill_between(x, np.maximum(mean - spread, 1e-3), mean + spread, color=color, alpha=0.2, linewidth=0)
    captions = ("examples seen", "steps", "seconds on this machine")
    for row, title in enumerate(titles):
        grid[row][0].set_ylabel(f"{title}\ntest error, %")
        for axes, caption in zip(grid[row], captions, strict=True):
            axes.set(xscale="log", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 7)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if row == len(titles) - 1:
                axes.set_xlabel(caption)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return _pixels(figure)


def optimizer_paths(families: Sequence[Family], title: str, explained: Explained | None = None) -> np.ndarray:
    """Draw the value that optimizers have reached over what they asked, and their paths if there are two numbers.

    Args:
      families: what each optimizer did.
      title: name of the function.
      explained: the function of two numbers on a grid, if it is one.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    figure = Figure(figsize=(12.4 if explained else 8, 5), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2 if explained else 1, squeeze=False)[0]
    lowest = min(family.values.min() for family in families)
    if explained:
        lowest = min([lowest, *(minimum.value for minimum in explained.minima)])
        _contours(panels[0], explained)
    race = panels[-1]
    floor = 1e-16 * max(1e-300, *(family.values[0] - lowest for family in families))
    for index, family in enumerate(families):
        color, dashes = LINES[index % len(LINES)]
        style = dict(color=color, linestyle=dashes, linewidth=1.7, label=family.name)
        asked = np.sum(list(family.counts.values()), axis=0)
        race.plot(asked, np.maximum(family.values - lowest, floor), **style)
        race.plot(asked[-1], max(family.values[-1] - lowest, floor), "o", color=color, markersize=5)
        if explained:
            panels[0].plot(*family.path.T, **style)
    race.set(xscale="log", yscale="log", ylabel="value above the lowest known", title="Nothing is free")
    race.set_xlabel("evaluations: values + gradients + products of the Hessian + Jacobians")
    race.grid(alpha=0.25)
    race.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13)
    figure.legend(*race.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, handlelength=3)
    return _pixels(figure)


def regressions(fits: Mapping[str, Fitted], title: str, certified: float) -> np.ndarray:
    """Draw how far the sum of squares is above the certified one, over what was asked.

    Args:
      fits: by what made them.
      title: name of the data set.
      certified: smallest sum of squares.

    Returns:
      Pixels of the picture, float32 (height, width, 3) in [0, 1].
    """
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for index, (name, fitted) in enumerate(fits.items()):
        color, dashes = LINES[index % len(LINES)]
        asked = [
            sum(count for question, count in row.items() if question not in ("step", "value")) for row in fitted.history
        ]
        # A certified sum has eleven digits.
        above = [max(2 * row["value"] / certified - 1, 1e-11) for row in fitted.history]
        axes.plot(asked, above, color=color, linestyle=dashes, linewidth=1.7, label=name)
        axes.plot(asked[-1], above[-1], "o", color=color, markersize=5)
    axes.set(xscale="log", yscale="log", title=title, ylabel="relative excess over the certified sum of squares")
    axes.set_xlabel("evaluations: residuals + Jacobians + second derivatives")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=3)
    return _pixels(figure)


def _contours(axes, explained):
    """Draw a function of two numbers: bands that are close where it is low, minima as crosses, the start as a ring."""
    (left, right), (bottom, top) = explained.view
    values = explained.grid.derivatives[0, 0]
    spread = values - np.nanmin(values)
    tones = np.log1p(8 * spread / max(float(np.nanquantile(spread, 1 / 3)), 1e-300))
    sides = np.linspace(left, right, values.shape[1]), np.linspace(bottom, top, values.shape[0])
    levels = np.linspace(0, float(np.nanquantile(tones, 0.98)) or 1.0, 16)
    axes.contourf(*sides, tones, levels=levels, cmap="Blues_r", alpha=0.35, extend="max")
    axes.contour(*sides, tones, levels=levels, colors="#8b8880", linewidths=0.5)
    for minimum in explained.minima:
        axes.plot(*minimum.point, "x", color="#222222", markersize=8)
    axes.plot(*explained.start, "o", markerfacecolor="none", markeredgecolor="#222222", markersize=9)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=explained.labels[0], ylabel=explained.labels[1])
    axes.set_title("paths from the ring; crosses are minima")


def _bars(axes, top):
    """Draw probabilities as labeled bars, the largest first and bold."""
    for row, (name, _, probability) in enumerate(top):
        weight = "bold" if row == 0 else "normal"
        axes.barh(-row, 1, height=0.22, color="#eeeeee")
        axes.barh(-row, probability, height=0.22, color="#0072B2" if row == 0 else "#9db8c9")
        axes.text(0, 0.2 - row, short(name), fontsize=12, va="bottom", weight=weight)
        axes.text(1, 0.2 - row, f"{probability:.1%}", fontsize=12, va="bottom", ha="right", weight=weight)
    axes.set(xlim=(0, 1), ylim=(-2.3, 0.8))
    axes.axis("off")


def _pixels(figure):
    """Render a figure as float32 (height, width, 3) in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
