"""Pictures of an attack: the photograph, what was added to it, and what a network makes of it."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def short(name):
    return name.split(",")[0]


def magnified(perturbation):
    """The perturbation scaled until its largest value just fits, around gray; and the factor."""
    gain = max(0.5 / max(np.abs(perturbation).max(), 1e-9), 1)
    return np.clip(0.5 + gain * perturbation, 0, 1), gain


def draw(panels, note):
    """Three pictures in a row, `photograph + perturbation = result`, with what the network makes of them underneath."""
    figure = Figure(figsize=(12, 6), dpi=100, facecolor="white")
    width, gap, left = 0.29, 0.045, 0.02
    for index, (caption, image, top) in enumerate(panels):
        x = left + index * (width + gap)
        axes = figure.add_axes((x, 0.36, width, 0.58))
        axes.imshow(image, interpolation="nearest")
        axes.set_title(caption, fontsize=13)
        axes.axis("off")
        bars(figure.add_axes((x, 0.09, width, 0.25)), top)
        if index:
            figure.text(x - gap / 2, 0.65, "+="[index - 1], fontsize=26, ha="center", va="center", color="#444444")
    figure.text(0.5, 0.035, note, fontsize=11, ha="center", va="center", color="#444444")
    return pixels(figure)


def bars(axes, top):
    """Probabilities as labeled bars, the largest first and bold."""
    for row, (name, _, probability) in enumerate(top):
        weight = "bold" if row == 0 else "normal"
        axes.barh(-row, 1, height=0.22, color="#eeeeee")
        axes.barh(-row, probability, height=0.22, color="#0072B2" if row == 0 else "#9db8c9")
        axes.text(0, 0.2 - row, short(name), fontsize=12, va="bottom", weight=weight)
        axes.text(1, 0.2 - row, f"{probability:.1%}", fontsize=12, va="bottom", ha="right", weight=weight)
    axes.set(xlim=(0, 1), ylim=(-2.3, 0.8))
    axes.axis("off")


def pixels(figure):
    """A matplotlib figure as float32 [height, width, 3] in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255


def draw_curve(budgets, series, axis):
    """Probabilities over budgets, a line for each class; `budgets` as text."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for (name, values), color, marker in zip(series.items(), ("#0072B2", "#D55E00"), "os", strict=False):
        axes.plot(range(len(budgets)), 100 * np.asarray(values), color=color, marker=marker, label=short(name))
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set(xlabel=axis, ylabel="probability, %", ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return pixels(figure)
