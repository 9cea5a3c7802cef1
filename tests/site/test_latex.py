"""The plain-text notation of the docstrings becomes the LaTeX that its author meant."""

from __future__ import annotations

import pytest

from demos.site.latex import formula

EXAMPLES = {
    "x_t = a x_0 + σ ε,  ε ~ N(0, I)": r"x_{t} = a x_{0} + \sigma \varepsilon,\quad "
    r"\varepsilon \sim \mathcal{N}(0, I)",
    "q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I)": r"q(x_{t} \mid x_{t - 1}) = "
    r"\mathcal{N}(\sqrt{1 - \beta_{t}} x_{t - 1}, \beta_{t} I)",
    "½ E |ψ(x + σz) + z/σ|²": r"\tfrac{1}{2} \mathbb{E} \left\lvert \psi(x + \sigma z) + "
    r"\frac{z}{\sigma} \right\rvert^{2}",
    "softmax(Q Kᵀ / √d) V": r"\operatorname{softmax}\left( \frac{Q K^{\top}}{\sqrt{d}} \right) V",
    "exp(e_ij) / Σ_k exp(e_ik)": r"\frac{\exp(e_{i j})}{\sum_{k} \exp(e_{i k})}",
    "KL(q(z|x) || p(z))": r"\operatorname{KL}(q(z \mid x) \,\|\, p(z))",
    "||z - e_k||²": r"\lVert z - e_{k} \rVert^{2}",
    "min_G max_D  V": r"\min_{G} \max_{D} V",
    "dL/dh = W_hhᵀ dL/dh'": r"\frac{dL}{dh} = W_{h h}^{\top} \frac{dL}{dh'}",
    "d log p(x) / dt": r"\frac{d \log p(x)}{dt}",
    "∫₀¹ ∇·v(x(t), t) dt": r"\int_{0}^{1} \nabla \cdot v(x(t), t)\, dt",
    "x_2i+1 e^(j p θ_i)": r"x_{2 i + 1} e^{j p \theta_{i}}",
    "y_<t": r"y_{< t}",
    "s~_t, ε̂, ᾱ_{t-1}": r"\tilde{s}_{t}, \hat{\varepsilon}, \bar{\alpha}_{t - 1}",
    "x_1 E + E_pos": r"x_{1} E + E_{\mathrm{pos}}",
    "E_q[log p(x|z)]": r"\mathbb{E}_{q}[\log p(x \mid z)]",
    "u ~ U[0, 1)^D": r"u \sim \mathcal{U}[0, 1)^{D}",
    "lr m / (sqrt(v) + eps)": r"\frac{\mathrm{lr}\, m}{\sqrt{v} + \mathrm{eps}}",
    "log P(x) / (D log 2)": r"\log P(x) / (D \log 2)",
    "W_in x_t + c_in x": r"W_{i n} x_{t} + c_{\mathrm{in}} x",
    "V_n⁻¹ ((G w) ⊙ (Bᵀ d))": r"V_{n}^{-1} ((G w) \odot (B^{\top} d))",
    "mean of x over the pixels": r"\text{mean of}\ x\ \text{over the pixels}",
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_formula_becomes_the_latex_that_is_meant(text):
    assert formula(text) == EXAMPLES[text]


def test_a_fraction_in_a_sentence_stays_on_one_line():
    assert formula("1 / (1 + σ²)", inline=True) == r"1 / (1 + \sigma^{2})"


@pytest.mark.parametrize("text", ["f(x", "x)", "x_ y", "#", "|x"])
def test_what_is_not_in_the_notation_is_refused(text):
    with pytest.raises(ValueError, match="formula"):
        formula(text)
