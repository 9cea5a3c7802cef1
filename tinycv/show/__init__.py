"""Pictures, measured figures and the frame of every demo.

demo.py      what all demos share: flags, the record of measured figures, where the picture goes
demo_flags.py  the command line of a demo, and which flags it refuses
colours.py   the palette of every picture
draw.py      figures and their files, curves, notes; and under this one name the drawing functions
             of images.py (one image, rows, tiles, patches, heat maps), fields.py (densities and
             arrows in the plane), graph.py (the recorded graph), words.py (attention weights)
live.py      LivePlot: the loss curve of a training, drawn while it runs
notebook.py  how Tensors and Modules look in a notebook
graph_text.py  the recorded graph as DOT, as Mermaid and as SVG
graph_layout.py  where its boxes and arrows are in the SVG
summary.py   tinycv.summary: a model's layers, shapes, parameters, FLOPs and activation memory
summary_table.py  its table, as text and as HTML
costs.py     the FLOPs of each op
confusion.py the confusion matrix of a classifier; draw.confusion draws it
motion.py    animated GIFs with captions
metrics.py   how close generated samples are to real data: modes, Frechet distance, precision
judge.py     a classifier of digits whose features the metrics compare
rule_judge.py  reads a drawing of shapes_and_words.py back to its scene, by trying all of them
ball_parser.py reads centres, radii and velocities of bouncing balls from the pixels of a video
doctor.py    python -m tinycv.show.doctor: what this machine computes with
inputs.py    argument checks of the drawing functions

Symbols: N, M numbers of points or images; F features per image (the judge's last layer but one);
K modes of a density; p true shares of the modes (K,), q generated ones; σ the standard deviation of
a mode; (H, W) height and width of an image in pixels; xs, ys the coordinates of a line.
"""
