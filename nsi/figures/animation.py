"""Animations of simulated activity: the bump on the ring, and on the sheet of grid cells."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from nsi.figures.style import FITTED
from nsi.files import whole

MAX_FRAMES, EVERY = 200, 5  # of a ring's first trial: steps from one frame to the next
MAX_SHEET_FRAMES, SHEET_EVERY = 60, 15


def animate(data, path, geometry):
    """The published animation: the bump over the ring and the heading, in time.

    data: simulate_recording's, of a ring; path: of the GIF."""
    rates, heading = data["rates"][0], data["heading"][0, :, 0]
    places = geometry.places(data["rates"].shape[-1])
    bump = geometry.decode(rates, places)[:, 0]
    degrees, time = np.degrees(places[:, 0]), np.arange(len(rates)) * data["dt"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    (line,) = left.plot(degrees, rates[0], color="C3")
    marker = left.axvline(0, color="k", ls=":", label="heading")
    left.set(xlim=(0, 360), ylim=(0, 1.02), xlabel="preferred heading (deg)", ylabel="firing rate",
             title="bump of activity")  # fmt: skip
    left.legend(loc="upper right", frameon=False)
    right.plot(time, np.degrees(heading) % 360, "k.", ms=1, label="heading")
    right.plot(time, np.degrees(bump) % 360, "C3.", ms=1, alpha=0.5, label="bump")
    now = right.axvline(0, color="grey")
    right.set(xlabel="time (s)", ylabel="angle (deg)", ylim=(0, 360), title="heading and bump")
    right.legend(loc="upper right", markerscale=6, framealpha=0.9)

    def draw(t):
        line.set_ydata(rates[t])
        marker.set_xdata([np.degrees(heading[t]) % 360] * 2)
        now.set_xdata([time[t]] * 2)
        return line, marker, now

    write(figure, draw, range(0, min(len(rates), MAX_FRAMES * EVERY), EVERY), path, 20)


def animate_sheet(data, path, geometry):
    """Grid cells in time: the bump on the sheet, the path in the box, and the rate map of one cell growing.

    data: simulate_recording's, of a torus; path: of the GIF."""
    rates, position, box = data["rates"], data["position"], data["position"].reshape(-1, 2)
    n, (trials, steps, _) = rates.shape[-1], rates.shape
    side, cell = round(np.sqrt(n)), n // 2
    corners = geometry.places(n) @ np.linalg.inv(geometry.K).T  # a rhomb, as the sheet lies in the plane
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.5, 3.1), layout="constrained")
    drawn = left.scatter(*corners.T, c=rates[0, 0], cmap="viridis", vmin=0, vmax=rates[0].max(), marker="h",
                         s=16000 / n)  # fmt: skip
    (heading,) = left.plot([], [], "r+", ms=9, mew=1.5)
    left.set(title="bump on the sheet, + true phase", xlabel="displacement (rad)", aspect="equal")
    (line,) = middle.plot([], [], color="grey", lw=0.8)
    (now,) = middle.plot([], [], "o", color=FITTED, ms=5)
    limits = {"xlim": (box[:, 0].min(), box[:, 0].max()), "ylim": (box[:, 1].min(), box[:, 1].max())}
    middle.set(title="path", xlabel="x (m)", ylabel="y (m)", aspect="equal", **limits)
    extent = (*limits["xlim"], *limits["ylim"])
    picture = right.imshow(np.zeros((1, 1)), origin="lower", extent=extent, cmap="viridis", vmin=0,
                           vmax=rates[..., cell].max())  # fmt: skip
    right.set(title="rate map of one cell", xlabel="x (m)")
    moments = range(0, min(steps, MAX_SHEET_FRAMES * SHEET_EVERY), SHEET_EVERY)
    before = range(1, trials)  # trials that fill the map in, as many at every frame

    def draw(t):
        drawn.set_array(rates[0, t])
        place = data["heading"][0, t] % (2 * np.pi) @ np.linalg.inv(geometry.K).T
        heading.set_data([place[0]], [place[1]])
        line.set_data(*position[0, : t + 1].T)
        now.set_data(*position[0, t : t + 1].T)
        some = before[: round(len(before) * t / max(1, moments[-1]))]
        shown = [(position[0, : t + 1], rates[0, : t + 1, cell]), *((position[k], rates[k, :, cell]) for k in some)]
        where, fired = (np.concatenate(parts) for parts in zip(*shown, strict=True))
        visits, *edges = np.histogram2d(*where.T, side + 14, (limits["xlim"], limits["ylim"]))
        sums, *_ = np.histogram2d(*where.T, edges, weights=fired)
        with np.errstate(invalid="ignore"):
            picture.set_data((sums / visits).T)
        return drawn, heading, line, now, picture

    write(figure, draw, moments, path, 10)


def write(figure, draw, steps, path, per_second):
    """Write an animation as a GIF, and open it in a window where there is a display.

    draw: changes what moves to how it is at a step, and returns these artists; all else is drawn once."""
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the layout would be found anew for every frame
    figure.set_dpi(80)
    shown, canvas, frames = figure.canvas, FigureCanvasAgg(figure), []
    moving = draw(steps[0])
    plt.setp(moving, animated=True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for t in steps:
        canvas.restore_region(still)
        for artist in draw(t):
            figure.draw_artist(artist)
        frames.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    with whole(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=1000 // per_second, loop=0)
    figure.set_canvas(shown)
    plt.setp(moving, animated=False)
    if matplotlib.get_backend().lower() != "agg":  # matplotlib itself falls back to agg without a display
        movie = FuncAnimation(figure, draw, steps, interval=1000 / per_second)  # noqa: F841 (it moves while it is kept)
        plt.show()
    plt.close(figure)
