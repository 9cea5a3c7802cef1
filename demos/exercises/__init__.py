"""Exercises that grade themselves: write a derivative or a definition, and read what is wrong.

    python -m demos exercise               lists the exercises
    python -m demos exercise tanh          writes out/exercises/tanh.py, with a blank to fill in
    python -m demos exercise check tanh    checks that file, and says in words what is wrong

    exercise.py    what an exercise is: its parts, its blank, its known mistakes
    allowed.py     what an answer may use, so that it is not the package's own answer
    outcomes.py    runs an answer, and compares what it returns with the package and with mutants
    words.py       describes a difference that no mutant has
    diagnose.py    the check: which of the above applies, and what the learner reads
    command.py     the three commands above

Every other file is one exercise: tanh.py is the shortest example.  To add one:

1. Write demos/exercises/NAME.py. Its docstring is what the learner reads: the first line is the
   title, then come formula, source and shapes, in ASCII.
2. Below it, write the answer as functions that need only operators, Tensor methods and a few names
   of tinycv. The docstring of a function says what it takes and returns, with shapes; the learner
   gets the function with its docstring, and a blank for the rest.
3. Make one part per function: ``Definition`` for a function that is compared with a function of the
   package, ``Pull`` for a derivative as in a row of tinycv/engine/ops.py. Give it several cases, of
   different shapes, so that no mistake fits by accident. Random numbers, such as the noise of a
   sampler, are arguments: then there is one right result. If the package's function draws its own
   noise, ``drawing`` gives it this one (langevin.py). If a mistake changes only the derivative, as
   in wgan_gp.py, name the argument in ``gradient_by``.
4. List at least three known mistakes per exercise as ``Wrong(fault, right, wrong, words)``: the
   text ``right``, which must occur exactly once in the function, becomes ``wrong``. If an answer
   gives the same results as this mutant, the learner reads ``fault`` and ``words``.
5. Add NAME to ORDER, and run ``pytest tests/exercises -k NAME``, which runs the blank, the answer
   and every mistake.
"""

# in the lecture's order
ORDER = (
    "tanh",
    "multiply",
    "matmul",
    "walk_back",
    "softmax",
    "cross_entropy",
    "layer_norm",
    "rnn_step",
    "lstm_cell",
    "bahdanau",
    "attention",
    "multi_head",
    "positions",
    "patches",
    "gan",
    "wgan_gp",
    "score_matching",
    "langevin",
    "ddpm",
    "ddim",
    "guidance",
    "vae",
    "realnvp",
)
