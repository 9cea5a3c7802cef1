"""Every public function and class of adversarial/, likelihood/, diffusion/, nn/distributions.py and
nn/discretized.py answers a wrong argument with an error message that names the argument."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from wrong_calls import riddles

from tinycv import Tensor, adversarial, concatenate, likelihood, nn
from tinycv import diffusion as chapter
from tinycv.adversarial import arithmetic, gan, plane, recipe, spade, turns
from tinycv.adversarial import networks as gan_networks
from tinycv.adversarial.unrolled import unrolled
from tinycv.data import DataLoader
from tinycv.data.shapes import grid
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion import (
    bound,
    cross_attention,
    cross_entropy,
    distillation,
    dit,
    edm,
    embedding,
    flow_matching,
    guidance,
    inpaint,
    langevin,
    latent,
    mixed_score,
    ode,
    samplers,
    schedule,
    score,
    sde,
    text_to_image,
    tweedie,
    unet,
    video,
    video_dit,
)
from tinycv.diffusion import denoising as diffusion
from tinycv.diffusion import mlp as networks
from tinycv.diffusion import sample as sample_command
from tinycv.likelihood import (
    ais,
    autoregressive,
    baselines,
    dalle,
    flow,
    glow,
    image_gpt,
    pixel_by_pixel,
    pixelcnn,
    units,
    vae,
    vq_vae,
)
from tinycv.likelihood.vae import VAE
from tinycv.nn import discretized, distributions
from tinycv.nn.inputs import labels as labels_in
from tinycv.optim import SGD
from tinycv.optim.averaged import EMA
from tinycv.show import judge

POINTS = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
IMAGES = np.random.default_rng(1).random((4, 1, 8, 8)).astype(np.float32)
SCHEDULE = schedule.linear_schedule(7)
CODER = vae.VAE(64, 2, (3,), classes=3)
LINEAR = vae.VAE(64, 2, (), decoder="gaussian")
LABELS = np.array([0, 1, 2, 1])
CHANCES = np.array([[0.95, 0.05], [0.02, 0.97]])
HAS = np.array([True, False, True, False])
LEVELS = np.sign(POINTS)
SIGMAS = np.array([0.5, 1, 2, 3], np.float32)
BINARY = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.float32)


def same(x, *_):
    return 0.5 * x


def twice(x, *_):
    return concatenate([x, 0.5 * x], axis=1)


def logit(x, *_):
    return (x * x).sum(axis=tuple(range(1, x.ndim)))


def density(x):
    return -0.5 * (x * x).sum(axis=-1)


PAINTER = spade.LabelToImage(3, latent=2, widths=(2, 2), side=8)
MAPS = np.zeros((4, 8, 8), np.int64)
PLAIN_VAE = VAE(64, 2, hidden=(4,))
TWO_STAGES = latent.LatentDiffusion(PLAIN_VAE, networks.ScoreMLP(2, 4, 1, 2))
TWO_STAGES.standardise(IMAGES)
VIDEO_DIT = video_dit.VideoDiT((1, 4, 4), dim=12, depth=1, heads=2, words=5, length=3)
VIDEOS = IMAGES[:, None].repeat(2, axis=1)  # (4, 2, 1, 8, 8)
VIDEO_MODEL = video.VideoDiffusion(VIDEO_DIT)
VIDEO_MODEL.standardise(VIDEOS)
LSGM = latent.LSGM(PLAIN_VAE, networks.ScoreMLP(2, 4, 1, 2))
STUDENT = distillation.ConsistencyModel(networks.ScoreMLP(2, 4, 1, 2))
TEXT_DIT = cross_attention.TextDiT(8, 4, 1, 7, 3, 4, 1, 2)
PROMPTS = WordTokenizer(["a", "red", "blue", "circle"])
ARTIST = text_to_image.TextToImage(TEXT_DIT, PROMPTS)
TEXTS = np.array([[3, 4, 6], [3, 5, 6], [6, 0, 0], [0, 0, 0]])
X, T = Tensor(POINTS), np.array([1, 2, 3, 7])
STEP = {"denoise": same, "schedule": SCHEDULE, "x": X, "t": 5, "s": 2}
CODER_OPTIONS = {"shape": (1, 8, 8), "codes": 3, "patch_size": 4, "features": 4, "blocks": 1}
DVAE, VQ = vq_vae.DiscreteVAE(**CODER_OPTIONS), vq_vae.VQVAE(**CODER_OPTIONS)
PAINTER_OF_CODES = dalle.DALLE(4, 2, 3, 4, dim=4, heads=2, layers=1)
IDS, CODES = np.array([[1, 2], [3, 0]]), np.array([[0, 1, 2, 2], [1, 1, 0, 0]])
CALLS = {
    schedule.linear_schedule: {"steps": 5, "first": 1e-4, "last": 0.02},
    schedule.cosine_schedule: {"steps": 5, "offset": 0.008, "largest": 0.999},
    schedule.alpha_bar_of: {"betas": np.array([0.1, 0.2])},
    schedule.DDPM: {"alpha_bar": SCHEDULE.alpha_bar},
    tweedie.score_of: {"denoiser": same, "schedule": SCHEDULE},
    tweedie.denoiser_of: {"score": same, "schedule": SCHEDULE},
    diffusion.diffusion_loss: {"model": same, "x0": X, "schedule": SCHEDULE, "predicts": "eps"},
    diffusion.denoiser: {"model": same, "schedule": SCHEDULE, "predicts": "v"},
    diffusion.target_for: {"predicts": "v", "x0": X, "noise": X, "a": 0.6, "sigma": 0.8},
    diffusion.to_x0: {"predicts": "v", "answer": X, "x": X, "a": 0.6, "sigma": 0.8},
    diffusion.to_noise: {"x0": X, "x": X, "a": 0.6, "sigma": 0.8},
    edm.preconditioning: {"sigma": SIGMAS, "sigma_data": 0.5},
    dit.modulated: {"z": X, "shift": X, "scale": X},
    diffusion.clipped: {"denoise": same, "low": -1.0, "high": 1.0},
    samplers.ddpm_step: {**STEP, "variance": "small"},
    samplers.ddim_step: {**STEP, "eta": 0.5},
    samplers.sampling_times: {"schedule": SCHEDULE, "steps": 3},
    samplers.sample: {"step": same, "x": X, "times": [3, 2, 1]},
    sample_command.digits: {
        "model": unet.UNet(1, (8,), patch_size=2, num_classes=10),
        "labels": np.array([7]),
        "steps": 1,
        "w": 1.0,
        "device": "cpu",
    },
    guidance.without_some: {"labels": LABELS, "nobody": 3, "share": 0.1},
    guidance.guided: {"denoise": same, "labels": LABELS, "nobody": 3, "w": 1.0},
    inpaint.inpainting: {
        "step": same,
        "schedule": SCHEDULE,
        "image": X,
        "known": Tensor(POINTS > 0),
        "repeats": 2,
    },
    bound.Bound: {},  # it only holds results
    bound.variational_bound: {
        "denoise": same,
        "x0": X,
        "schedule": SCHEDULE,
        "variance": same,
        "levels": None,
    },
    bound.prior_term: {"schedule": SCHEDULE, "x0": X},
    bound.step_term: {
        "schedule": SCHEDULE,
        "x0": X,
        "x": X,
        "t": T,
        "denoised": X,
        "log_var": X,
    },
    bound.decoder_term: {"x0": Tensor(LEVELS), "denoised": X, "log_var": X, "levels": 3},
    bound.posterior_mean: {"schedule": SCHEDULE, "x0": X, "x": X, "t": T},
    bound.log_variances: {"schedule": SCHEDULE, "x": X, "t": T},
    bound.log_variance: {"schedule": SCHEDULE, "x": X, "t": T, "variance": same},
    bound.hybrid_loss: {
        "model": twice,
        "x0": X,
        "schedule": SCHEDULE,
        "predicts": "eps",
        "levels": None,
        "weight": 0.001,
    },
    bound.denoiser_and_v: {"model": twice, "schedule": SCHEDULE, "predicts": "v"},
    samplers.learned_log_variance: {"v": X, "log_large": -1.0, "log_small": -2.0},
    edm.edm_denoiser: {"model": same, "sigma_data": 0.5},
    edm.noise_levels: {"sigma": SIGMAS, "x": X},
    edm.EDM: {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0},
    edm.edm_loss: {"model": same, "x0": X, "sigma_data": 0.5, "mean": -1.2, "std": 1.2},
    edm.edm_sigmas: {"steps": 5, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0},
    edm.heun_step: {"denoise": same, "x": X, "sigma": 2.0, "lower": 1.0},
    langevin.ula: {"score": same, "x": POINTS, "step": 0.1, "steps": 2, "keep_every": 1},
    langevin.mala: {
        "log_density": density,
        "score": same,
        "x": POINTS,
        "step": 0.1,
        "steps": 2,
        "keep_every": 1,
    },
    langevin.annealed: {
        "score": same,
        "x": POINTS,
        "sigmas": [2.0, 1.0],
        "steps": 2,
        "eps": 0.1,
        "keep_every": 1,
    },
    cross_entropy.LatentVP: {"beta_min": 0.1, "beta_max": 5.0, "sigma_0": 0.1},
    cross_entropy.score_cross_entropy: {
        "predict_noise": same,
        "schedule": sde.VP(),
        "z": X,
        "t": Tensor(SIGMAS / 4),
        "weight": Tensor(SIGMAS),
        "noise": X,
        "first": 0.01,
    },
    mixed_score.MixedScore: {
        "network": networks.ScoreMLP(2, 4, 1, 2),
        "latent": 2,
        "sde": cross_entropy.LatentVP(),
        "mixing_logit": -3.0,
    },
    mixed_score.VelocityNoise: {
        "network": networks.ScoreMLP(2, 4, 1, 2),
        "sde": cross_entropy.LatentVP(),
    },
    latent.joined: {"two_stages": TWO_STAGES, "mixing_logit": 3.0},
    latent.LSGM: {
        "vae": PLAIN_VAE,
        "network": networks.ScoreMLP(2, 4, 1, 2),
        "sde": cross_entropy.LatentVP(),
        "mixing_logit": -3.0,
    },
    latent.LatentDiffusion: {
        "vae": PLAIN_VAE,
        "network": networks.ScoreMLP(2, 4, 1, 2),
        "sigma_min": 0.01,
        "sigma_max": 20.0,
    },
    latent.bound_of: {"model": TWO_STAGES, "images": IMAGES, "repeats": 1},
    distillation.consistency_function: {"model": same, "sigma_data": 0.5, "sigma_min": 0.1},
    distillation.with_guidance: {"denoise": same, "nobody": 3, "w": 1.0},
    distillation.teacher_step: {
        "denoise": same,
        "x": X,
        "sigma": SIGMAS,
        "lower": SIGMAS / 2,
        "second_order": True,
    },
    distillation.consistency_loss: {
        "f": same,
        "target": same,
        "step": same,
        "x0": X,
        "levels": [2.0, 1.0],
    },
    distillation.consistency_step: {"f": same, "x": X, "sigma": 2.0, "lower": 1.0},
    distillation.consistency_sigmas: {
        "steps": 3,
        "lowest": 0.5,
        "sigma_max": 80.0,
        "rho": 7.0,
    },
    distillation.ConsistencyModel: {
        "network": networks.ScoreMLP(2, 4, 1, 2),
        "sigma_data": 0.5,
        "schedule": edm.EDM(),
        "steps": 3,
        "decay": 0.9,
    },
    langevin.geometric: {"first": 20.0, "last": 1.0, "count": 5},
    score.explicit: {"score": same, "x": X},
    score.sliced: {"score": same, "x": X, "v": X},
    score.sliced_vr: {"score": same, "x": X, "v": X},
    score.denoising: {"score": same, "x": X, "sigma": Tensor(SIGMAS), "z": X},
    score.with_divergence: {"field": same, "x": X},
    score.with_slope_along: {"field": same, "x": X, "v": X},
    ode.euler: {"v": same, "x": X, "t": 0.0, "then": 0.5},
    ode.heun: {"v": same, "x": X, "t": 0.0, "then": 0.5},
    ode.rk4: {"v": same, "x": X, "t": 0.0, "then": 0.5},
    ode.solve: {"v": same, "x": POINTS, "times": [0.0, 0.5, 1.0], "step": ode.heun},
    ode.log_likelihood: {
        "sde": sde.VP(),
        "score": same,
        "x": POINTS,
        "times": [0.0, 0.5, 1.0],
        "along": POINTS,
        "step": ode.heun,
    },
    ode.flow_log_likelihood: {
        "v": same,
        "x": POINTS,
        "times": [0.0, 0.5, 1.0],
        "log_prior": ode.log_standard_normal,
        "along": POINTS,
        "step": ode.heun,
    },
    ode.log_standard_normal: {"x": POINTS},
    sde.VE: {"sigma_min": 0.01, "sigma_max": 5.0},
    sde.VP: {"beta_min": 0.1, "beta_max": 5.0},
    sde.SubVP: {"beta_min": 0.1, "beta_max": 5.0},
    sde.Reverse: {"sde": sde.VP(), "score": same},
    sde.euler_maruyama: {
        "process": sde.VP(),
        "x": POINTS,
        "times": [0.0, 0.5, 1.0],
        "keep_every": 1,
    },
    sde.predictor_corrector: {
        "sde": sde.VP(),
        "score": same,
        "x": POINTS,
        "times": [1.0, 0.5, 0.1],
        "snr": 0.1,
        "corrections": 1,
    },
    embedding.TimeAndLabel: {"dim": 4, "num_classes": 3},
    networks.fourier_features: {"t": Tensor(SIGMAS), "width": 4, "slowest": 0.5, "fastest": 4.0},
    networks.ScoreMLP: {
        "dim": 2,
        "hidden": 4,
        "depth": 1,
        "time_features": 2,
        "place_features": 2,
        "fastest": 4.0,
    },
    gan.tell_apart: {"real": X, "fake": X},
    gan.least_squares: {"real": X, "fake": X},
    gan.hinge: {"real": X, "fake": X},
    gan.difference: {"real": X, "fake": X},
    gan.minimax: {"fake": X},
    gan.non_saturating: {"fake": X},
    gan.near_one: {"fake": X},
    gan.minus_fake: {"fake": X},
    gan.GradientPenalty: {"weight": 1.0},
    gan.R1: {"weight": 1.0},
    gan.no_penalty: {"x": X},
    gan.slopes: {"discriminator": logit, "x": X},
    gan.Packed: {"network": logit, "size": 2},
    gan.Conditional: {"network": same, "classes": 3},
    gan_networks.start_small: {"network": nn.Linear(2, 2), "std": 0.02},
    gan_networks.PointGenerator: {"latent": 2, "out": 2, "width": 3, "depth": 1},
    gan_networks.Maxout: {"in_features": 2, "out_features": 2, "pieces": 2},
    gan_networks.PointDiscriminator: {"features": 2, "width": 3, "pieces": 2, "depth": 1},
    gan_networks.PointMLP: {"features": 2, "out": 2, "width": 3, "depth": 1, "slope": 0.2},
    gan_networks.DCGANGenerator: {"side": 8, "latent": 2, "channels": 1, "width": 2},
    gan_networks.DCGANDiscriminator: {"side": 8, "channels": 1, "width": 2, "batch_norm": True},
    recipe.images_of: {
        "generator": gan_networks.DCGANGenerator(8, 2, 1, 2),
        "noise": POINTS,
    },
    arithmetic.arithmetic: {"a": POINTS, "b": POINTS, "c": POINTS},
    arithmetic.concepts_of_triples: {
        "count": 2,
        "attributes": 3,
        "asked": 0,
        "context": 1,
        "rng": np.random.default_rng(0),
    },
    arithmetic.pick: {
        "probabilities": CHANCES,
        "concepts": np.array([[1, 0]]),
        "n": 1,
        "rng": np.random.default_rng(0),
        "threshold": 0.9,
    },
    arithmetic.count_shown: {
        "probabilities": CHANCES,
        "concepts": np.array([[1, 0]]),
        "threshold": 0.9,
    },
    arithmetic.neighbours: {
        "z": POINTS[0],
        "count": 3,
        "rng": np.random.default_rng(0),
        "noise": 0.25,
    },
    arithmetic.Score: {},  # it only holds results
    arithmetic.score: {"probabilities": CHANCES, "expected": np.eye(2, dtype=int), "asked": 0},
    arithmetic.difference_of_means: {"z": POINTS, "has": HAS},
    arithmetic.linear_classifier: {"z": POINTS, "has": HAS, "decay": 0.1},
    arithmetic.regression_direction: {"z": POINTS, "values": POINTS[:, 0]},
    arithmetic.judge_gradient: {
        "generator": gan_networks.DCGANGenerator(8, 2, 1, 2).eval(),
        "judge": lambda x: x.reshape(len(x), -1),
        "z": POINTS,
        "attribute": 1,
    },
    arithmetic.random_direction: {"direction": POINTS, "rng": np.random.default_rng(0)},
    arithmetic.linear_path: {"a": POINTS[0], "b": POINTS[1], "steps": 3},
    arithmetic.spherical_path: {"a": POINTS[0], "b": POINTS[1], "steps": 3},
    spade.label_planes: {"labels": Tensor(LABELS[:, None, None]), "classes": 3},
    spade.SPADE: {"channels": 2, "classes": 3, "hidden": 2},
    spade.ConcatNorm: {"channels": 2, "classes": 3},
    spade.ResBlock: {"before": 2, "after": 3, "classes": 3, "norm": "spade"},
    spade.Generator: {"classes": 3, "norm": "spade", "latent": 2, "widths": (2, 2), "side": 8},
    spade.StyleEncoder: {"latent": 2, "width": 2, "side": 8},
    spade.Discriminator: {"classes": 3, "width": 2},
    spade.LabelToImage: {"classes": 3, "norm": "concat", "latent": 2, "widths": (2, 2), "side": 8},
    spade.kl_to_normal: {"mean": X, "log_variance": X},
    spade.styles_of: {"painter": PAINTER, "images": IMAGES.repeat(3, axis=1)},
    spade.paint_maps: {"painter": PAINTER, "z": POINTS, "labels": MAPS},
    unet.group_norm_of: {"channels": 4},
    unet.ResBlock: {"channels_in": 4, "channels_out": 4, "embed_dim": 4},
    unet.PixelAttention: {"channels": 4, "heads": 2},
    unet.UNet: {
        "channels": 1,
        "widths": (4, 4),
        "patch_size": 2,
        "heads": 2,
        "num_classes": 3,
        "embed_dim": 4,
    },
    unet.channels_of_four: {"channels": 4, "what": "UNet: widths"},
    cross_attention.CrossAttention: {"dim": 4, "heads": 2},
    cross_attention.TextDiTBlock: {"dim": 4, "heads": 2},
    cross_attention.PixelCrossAttention: {"channels": 4, "dim": 4, "heads": 2},
    cross_attention.TimeAndText: {
        "words": 7,
        "length": 3,
        "dim": 4,
        "embed_dim": 4,
        "heads": 2,
        "text_depth": 1,
    },
    cross_attention.TextDiT: {
        "image_size": 8,
        "patch_size": 4,
        "channels": 1,
        "words": 7,
        "length": 3,
        "dim": 4,
        "depth": 1,
        "heads": 2,
        "text_depth": 1,
    },
    cross_attention.TextUNet: {
        "channels": 1,
        "widths": (4, 4),
        "words": 7,
        "length": 3,
        "patch_size": 2,
        "dim": 4,
        "heads": 2,
        "text_depth": 1,
        "embed_dim": 4,
    },
    text_to_image.TextToImage: {
        "network": TEXT_DIT,
        "tokenizer": PROMPTS,
        "sigma_data": 0.5,
        "mean": 0.3,
        "std": 1.5,
        "sigma_min": 0.02,
        "sigma_max": 20.0,
        "centre": -1.0,
    },
    dit.DiTBlock: {"dim": 4, "heads": 2},
    video_dit.VideoBlock: {"dim": 12, "heads": 2, "rotary": True},
    video_dit.VideoDiT: {
        "patch": (2, 4, 4),
        "channels": 1,
        "dim": 12,
        "depth": 1,
        "heads": 2,
        "attention": "joint",
        "positions": "sinusoidal",
        "time_positions": True,
        "summary": True,
        "words": 5,
        "length": 3,
    },
    video.VideoDiffusion: {
        "network": VIDEO_DIT,
        "vae": None,
        "sigma_min": 0.01,
        "sigma_max": 20.0,
    },
    video.first_frames: {"counts": LABELS, "frames": 4},
    video.video_loss: {
        "network": VIDEO_DIT,
        "y": VIDEOS,
        "seen": video.first_frames(LABELS, 2),
        "ids": LABELS[:, None],
        "mean": 1.0,
        "std": 1.2,
    },
    dit.zero_linear: {"inputs": 2, "outputs": 2},
    dit.DiT: {
        "image_size": 8,
        "patch_size": 4,
        "channels": 1,
        "dim": 4,
        "depth": 1,
        "heads": 2,
        "num_classes": 3,
    },
    pixel_by_pixel.raster_order: {"shape": (3, 2)},
    pixel_by_pixel.spiral_order: {"shape": (3, 2)},
    pixel_by_pixel.receptive_field: {
        "model": pixelcnn.PixelCNN(4, 2, 1, 3),
        "row": 1,
        "column": 2,
        "images": 2,
        "seed": 3,
    },
    pixel_by_pixel.PixelModel: {
        "shape": (3, 2),
        "levels": 3,
        "order": np.arange(6),
        "mixture": 2,
    },
    autoregressive.MADE: {
        "shape": (3, 2),
        "hidden": (4, 5),
        "order": np.arange(6),
        "masks": 2,
        "agnostic": True,
        "direct": True,
    },
    pixelcnn.PixelCNN: {
        "shape": (3, 2),
        "width": 4,
        "depth": 1,
        "kernel_size": 3,
        "levels": 3,
        "mixture": 2,
        "first_mask": "A",
    },
    pixelcnn.GatedPixelCNN: {
        "shape": (3, 2),
        "width": 4,
        "depth": 2,
        "kernel_size": 3,
        "levels": 3,
        "mixture": 2,
    },
    pixelcnn.ResidualBlock: {"width": 3},
    pixelcnn.GatedLayer: {"before": 3, "width": 3, "kernel_size": 3, "mask_type": "B"},
    image_gpt.ImageGPT: {
        "shape": (4, 2),
        "patch": 2,
        "levels": 2,
        "order": np.arange(2),
        "d_model": 4,
        "nhead": 2,
        "num_layers": 1,
        "dropout": 0.1,
    },
    vq_vae.ResidualConv: {"features": 4},
    vq_vae.PatchEncoder: {"channels": 1, "patch_size": 2, "features": 4, "blocks": 1},
    vq_vae.PatchDecoder: {"channels": 1, "patch_size": 2, "features": 4, "blocks": 1},
    vq_vae.DiscreteVAE: {**CODER_OPTIONS, "sigma": 0.3},
    vq_vae.VQVAE: {**CODER_OPTIONS, "sigma": 0.3, "dim": 4, "commitment": 0.5},
    vq_vae.kl_from_uniform: {"logits": X, "axis": 1},
    vq_vae.falling_tau: {"step": 2, "total": 5, "last": 0.1},
    vq_vae.codes_in_use: {"codes": LABELS, "total": 5},
    dalle.DALLE: {
        "words": 4,
        "text_length": 2,
        "codes": 3,
        "image_tokens": (1, 2),
        "dim": 4,
        "heads": 2,
        "layers": 1,
        "order": "image first",
        "dropout": 0.1,
    },
    plane.networks: {"pacgan": False, "pack": 2, "spectral": False},
    plane.learners: {},
    plane.check_density: {"density": grid(), "what": "play"},
    judge.Judge: {"model": None},
    distributions.normal_log_prob: {"x": X, "mean": X, "log_var": X},
    distributions.normal_sample: {"mean": X, "log_var": X, "noise": X},
    distributions.kl_normal: {"mean": X, "log_var": X, "prior_mean": X, "prior_log_var": X},
    distributions.bernoulli_log_prob: {"x": Tensor(BINARY), "logits": X},
    distributions.bernoulli_sample: {"logits": X},
    distributions.kl_bernoulli: {"logits": X, "prior_logits": X},
    distributions.categorical_log_prob: {"labels": Tensor(LABELS % 2), "logits": X},
    distributions.categorical_sample: {"logits": X},
    distributions.kl_categorical: {"logits": X, "prior_logits": X},
    distributions.logistic_log_prob: {"x": X, "mean": X, "log_scale": X},
    distributions.logistic_sample: {"mean": X, "log_scale": X, "noise": Tensor(0.5 * BINARY)},
    discretized.discretized_logistic_log_prob: {
        "x": Tensor(2 * BINARY - 1),
        "mean": X,
        "log_scale": X,
        "levels": 2,
    },
    discretized.discretized_logistic_sample: {"mean": X, "log_scale": X, "levels": 17},
    discretized.logistic_mixture_log_prob: {
        "x": Tensor(2 * BINARY[:, 0] - 1),
        "weights": X,
        "means": X,
        "log_scales": X,
        "levels": 2,
    },
    discretized.logistic_mixture_sample: {
        "weights": X,
        "means": X,
        "log_scales": X,
        "levels": 17,
    },
    discretized.discretized_normal_log_prob: {
        "x": Tensor(2 * BINARY - 1),
        "mean": X,
        "log_var": X,
        "levels": 2,
    },
    discretized.discretized_normal_sample: {"mean": X, "log_var": X, "levels": 17},
    units.quantize: {"images": IMAGES, "levels": 17},
    units.dequantize: {"counts": LABELS, "levels": 17, "noise": SIGMAS / 4},
    units.binarize: {"images": IMAGES, "threshold": 0.5},
    units.log_prob_of_levels: {"log_density": SIGMAS, "levels": 17, "dims": 64},
    units.bits_per_dim: {"log_prob": -SIGMAS, "dims": 64},
    baselines.IndependentPixels: {"x": BINARY, "levels": 2, "pseudo": 0.5},
    baselines.ChowLiuTree: {"x": BINARY, "levels": 2, "pseudo": 0.5},
    baselines.GaussianDensity: {"x": POINTS, "shrinkage": 0.1},
    baselines.ProbabilisticPCA: {"x": POINTS, "q": 1},
    flow.alternating_mask: {"dim": 3, "first": 1},
    flow.checkerboard_mask: {"height": 2, "width": 3, "first": 0},
    flow.channel_mask: {"channels": 4, "first": 0},
    flow.AffineCoupling: {"network": flow.point_network(2, (3,)), "mask": np.array([0, 1])},
    flow.point_network: {"dim": 2, "hidden": (3,)},
    flow.image_network: {"channels": 2, "hidden": 3},
    flow.RealNVP: {"dim": 2, "couplings": 2, "hidden": (3,)},
    flow.ImageRealNVP: {"channels": 1, "side": 4, "scales": 2, "hidden": 2, "alpha": 0.05},
    flow.Logit: {"alpha": 0.05},
    flow.MultiScale: {"fine": [], "coarse": [], "rest": []},
    flow.Flow: {"layers": [flow.Logit()], "shape": (2,)},
    glow.ActNorm: {"channels": 2},
    glow.InvertibleConv1x1: {"channels": 2},
    glow.Glow: {"channels": 1, "side": 4, "levels": 1, "steps": 1, "hidden": 2, "alpha": 0.05},
    flow_matching.flow_matching_loss: {"model": same, "x0": X, "noise": X},
    flow_matching.velocity: {"model": same},
    vae.mlp: {"inputs": 2, "hidden": (3,), "outputs": 1},
    vae.VAE: {
        "inputs": 4,
        "latent": 2,
        "hidden": (3,),
        "decoder": "gaussian",
        "classes": 2,
        "sigma": 0.5,
    },
    vae.elbo_terms: {"vae": CODER, "x": IMAGES, "labels": LABELS, "noise": X},
    vae.elbo: {"vae": CODER, "x": IMAGES, "labels": LABELS},
    vae.vae_loss: {
        "vae": CODER,
        "x": IMAGES,
        "labels": LABELS,
        "beta": 1.0,
        "free_bits": 0.1,
    },
    vae.log_weights: {"vae": CODER, "x": IMAGES, "k": 2, "labels": LABELS},
    vae.iwae_bound: {"vae": CODER, "x": IMAGES, "k": 2, "labels": LABELS},
    vae.bounds_of: {"vae": CODER, "images": IMAGES, "k": 2, "labels": LABELS},
    vae.linear_elbo: {"vae": LINEAR, "x": IMAGES},
    vae.start_at_mean: {"vae": LINEAR, "images": IMAGES},
    vae.codes_of: {"vae": CODER, "images": IMAGES, "labels": LABELS},
    vae.active_units: {"vae": CODER, "images": IMAGES, "labels": LABELS, "threshold": 0.01},
    ais.sigmoid_schedule: {"steps": 3, "steepness": 4.0},
    ais.ais: {
        "log_f": density,
        "u": X,
        "betas": [0.0, 0.5, 1.0],
        "step_sizes": [0.1, 0.1],
        "leapfrog": 2,
    },
    ais.tune_steps: {
        "log_f": density,
        "u": X,
        "betas": [0.0, 0.5, 1.0],
        "leapfrog": 2,
        "first": 0.1,
    },
    ais.ais_log_prob: {
        "vae": CODER,
        "images": IMAGES,
        "labels": LABELS,
        "chains": 2,
        "steps": 2,
        "leapfrog": 1,
        "start": "prior",
    },
    judge.images_in: {"images": IMAGES, "what": "Judge"},
}
ELSEWHERE = {  # functions that are tested below in another way, or that users do not call:
    # inner helpers of nn/distributions.py, nn/discretized.py and likelihood/
    "log_normal_cdf",
    "discretized_logistic",
    "prepared",
    "classes_last",
    "broadcast",
    "drawn",
    "open_interval",
    "expected",
    "in_range",
    "check_levels",
    "edge_bins",
    "nearest_level",
    "mixture_shape",
    "pixels",
    "within_0_and_1",
    "nats",
    # helpers of likelihood/flow.py and glow.py
    "through",
    "back",
    "sum_of_example",
    "start_at_zero",
    "flow_layers",
    "check_side",
    "at_each_pixel",
    # the base of TextDiT and TextUNet, and the type of a tokenizer
    "TextDenoiser",
    "Tokenizer",
    "inverse_of_lower",
    "lu_factors",
    "glow_step",
    "level_layers",
    "scale_layers",
    "one_hot_rows",
    "pair_probabilities",
    "mutual_information",
    "largest_tree",
    "draw_rows",
    "moments",
    "gaussian_log_prob",
    "positive",
    "level_rows",
    "of_vae",
    "expect_standardised",
    # inner helpers of diffusion/video.py and video_dit.py
    "check_video",
    "frames_seen",
    "no_text",
    "of_network",
    "weight_of",
    "parts_of",
    "Position",
    "at",
    "log_normal",
    "hmc_step",
    "density_of_codes",
    "real_rows",
    "image_rows",
    # sample calls trajectory; ula and euler_maruyama call the steps; the rest are inner helpers
    "trajectory",
    "sample_and_keep",
    "euler_maruyama_step",
    "corrector_step",
    "langevin_step",
    "points",
    "to_points",
    "expm1",
    "checked_time",
    "fitting",
    "like",
    "weighted",
    "schedule_in",
    "made_for",
    "refuse_another",
    "Scored",  # a type alone
    "check_time_and_label",
    "real_row",
    "Schedule",
    "checked_step",
    "labels_of",
    "times_in",
    "logits",
    "Game",
    "Chain",
    "SDE",
    "Players",
    "take_turns",
    "check_sides",
    "check_extras",
    "check_ema",
    "check_shapes",
    "latent_of",
    "share_turns",
    "discriminator_objective",
    "generator_objective",
    "descend_with",
    "frozen",
    "both_losses",
    "descend",
    "restore_buffers",
    "fit_gan",
    "train_dcgan",
    "judge_of",
    "train",
    "play",
    "tournament",
    "unrolled",
    "mirrored",
    "label_map_for",
    "discriminator_loss",
    "generator_loss",
    "feature_matching",
    # inner helpers of the models that go pixel by pixel
    "order_of",
    "flat",
    "log_probs_of",
    "draw_pixels",
    "draw_level",
    "levels_in",
    "start_of",
    "draw_degrees",
    "gate",
    "centred",
    "outputs_of",
    "by_pixel",
    # inner helpers and base classes of vq_vae.py and dalle.py
    "ImageCodes",
    "shape_of",
    "numbers_in",
    "different_rows",
    "TextAndGridPositions",
    "likeliest",
    "grid_of",
    # of the command in diffusion/sample.py: tests/diffusion/test_sample_command.py
    "main",
    "report",
    "parser",
    "save_sheet",
    # inner helpers of cross_entropy.py, mixed_score.py and latent.py
    "noise_error",
    "without_classes",
    "latent_vp",
    "module_in",
    "noise_for",
}


def public():
    names = [
        f"{folder.__name__}.{info.name}"
        for folder in (adversarial, likelihood, chapter)
        for info in pkgutil.iter_modules(folder.__path__)
    ]
    names += ["tinycv.nn.distributions", "tinycv.nn.discretized", "tinycv.show.judge"]
    for module in map(importlib.import_module, names):
        yield from (
            v
            for n, v in vars(module).items()
            if callable(v)
            and not n.startswith("_")
            and getattr(v, "__module__", None) == module.__name__
        )


def test_every_public_name_is_covered_here():
    left = {f.__name__ for f in public()} - {f.__name__ for f in CALLS} - ELSEWHERE
    assert not left


@pytest.mark.parametrize(
    "function", CALLS, ids=lambda f: f"{f.__module__.split('.')[-1]}.{f.__name__}"
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_argument_is_named_in_the_error(function):
    names = {
        "sample": ("sample", "trajectory"),
        "sampling_times": ("sampling_times", "DDPM.times"),
        "score_cross_entropy": ("score_cross_entropy", "VP.marginal"),
        "LSGM": ("LSGM", "MixedScore"),
        "digits": ("digits", "device"),
        "LatentDiffusion": ("LatentDiffusion", "EDM"),
        "bound_of": ("bound_of", "VAE.encode"),
        "VideoBlock": ("VideoBlock", "DiTBlock"),
        "VideoDiffusion": ("VideoDiffusion", "EDM"),
        "video_loss": ("video_loss", "VideoDiT", "TextEncoder"),
        "sliced_vr": ("sliced_vr",),
        "Reverse": ("Reverse", "SDE.reverse"),
        "SubVP": ("SubVP",),
        "play": ("play",),
        "images_in": ("Judge",),
        "images_of": ("images_of", "DCGANGenerator"),
        "judge_gradient": ("judge_gradient", "DCGANGenerator"),
        "check_density": ("play",),
        "edm_loss": ("edm_loss",),
        "solve": ("solve", "heun"),
        "variational_bound": ("variational_bound", "discretized_normal_log_prob"),
        "step_term": ("step_term", "log_variances", "DDPM.times_for", "kl_normal"),
        "decoder_term": ("decoder_term", "discretized_normal_log_prob"),
        "posterior_mean": ("posterior_mean", "DDPM.times_for"),
        "log_variances": ("log_variances", "DDPM.times_for"),
        "log_variance": ("log_variance", "DDPM.times_for"),
        "denoiser_and_v": ("denoiser_and_v", "denoiser"),
        "hybrid_loss": ("hybrid_loss", "discretized_normal_log_prob"),
        "ImageRealNVP": ("ImageRealNVP", "Logit"),
        "Glow": ("Glow", "Logit"),
        "LabelToImage": ("LabelToImage", "Generator", "StyleEncoder"),
        "styles_of": ("styles_of", "StyleEncoder"),
        "paint_maps": ("paint_maps", "label_planes", "Generator"),
        "ImageGPT": ("ImageGPT", "GPT"),
        "kl_from_uniform": ("kl_from_uniform", "log_softmax"),
        "VQVAE": ("VQVAE", "VectorQuantizer"),
        "DALLE": ("DALLE", "GPT"),
        "channels_of_four": ("UNet: widths", "what"),
        "TimeAndText": ("TimeAndText", "TextEncoder", "TimeAndLabel"),
        "TextDiT": ("TextDiT", "TextEncoder"),
        "TextUNet": ("TextUNet", "TextEncoder"),
        "TextToImage": ("TextToImage", "EDM"),
        "elbo_terms": ("elbo_terms", "VAE", "normal_sample"),
        "elbo": ("elbo", "VAE"),
        "vae_loss": ("vae_loss", "VAE"),
        "log_weights": ("log_weights", "VAE"),
        "iwae_bound": ("iwae_bound", "VAE"),
        "bounds_of": ("bounds_of", "VAE"),
        "codes_of": ("codes_of", "VAE"),
        "active_units": ("active_units", "codes_of", "VAE"),
        "ais_log_prob": ("ais_log_prob", "VAE"),
    }
    found = riddles(function, CALLS[function], *names.get(function.__name__, ()))
    assert not found, "\n".join(found)


BITS = np.ones((2, 1, 4, 2), np.float32)
FIRST_ROWS = np.arange(8).reshape(4, 2) < 4
PIXEL_MODELS = {
    "MADE": autoregressive.MADE((4, 2), (3,), masks=2),
    "PixelCNN": pixelcnn.PixelCNN((4, 2), 2, 1, 3),
    "GatedPixelCNN": pixelcnn.GatedPixelCNN((4, 2), 2, 1),
    "ImageGPT": image_gpt.ImageGPT((4, 2), 2, d_model=4, nhead=1),
}
FLOW = flow.RealNVP(2, 2, (3,))
UNET, DIT = unet.UNet(1, (4, 4), 2, 2, 3, 4), dit.DiT(8, 4, 1, 4, 1, 2, 3)
FORWARDS = {
    "VAE": (CODER, {"x": Tensor(IMAGES), "labels": LABELS}),
    "VAE.encode": (CODER.encode, {"x": IMAGES, "labels": LABELS}),
    "VAE.decode": (CODER.decode, {"z": X, "labels": LABELS}),
    "VAE.log_likelihood": (CODER.log_likelihood, {"x": IMAGES, "z": X, "labels": LABELS}),
    "VAE.pixels": (CODER.pixels, {"z": X, "labels": LABELS}),
    "VAE.sample": (CODER.sample, {"n": 4, "labels": LABELS}),
    "DiscreteVAE.codes_of": (DVAE.codes_of, {"images": IMAGES}),
    "DiscreteVAE.images_of": (DVAE.images_of, {"codes": CODES}),
    "DiscreteVAE.logits": (DVAE.logits, {"images": IMAGES}),
    "DiscreteVAE.loss": (
        DVAE.loss,
        {"images": IMAGES, "tau": 0.5, "beta": 0.3, "hard": False},
    ),
    "DiscreteVAE.start_at_patches": (DVAE.start_at_patches, {"images": IMAGES}),
    "VQVAE.start_at_patches": (VQ.start_at_patches, {"images": IMAGES}),
    "VQVAE.loss": (VQ.loss, {"images": IMAGES}),
    "VQVAE.codes_of": (VQ.codes_of, {"images": IMAGES}),
    "VQVAE.images_of": (VQ.images_of, {"codes": CODES}),
    "VQVAE.revive": (VQ.revive, {"images": IMAGES, "patience": 3}),
    "DALLE.loss": (
        PAINTER_OF_CODES.loss,
        {"ids": IDS, "codes": CODES, "given_weight": 0.5},
    ),
    "DALLE.log_prob": (PAINTER_OF_CODES.log_prob, {"ids": IDS, "codes": CODES}),
    "DALLE.start_at_codebook": (
        PAINTER_OF_CODES.start_at_codebook,
        {"codebook": POINTS[:3], "std": 0.2},
    ),
    "DALLE.sample": (
        PAINTER_OF_CODES.sample,
        {"given": IDS, "temperature": 0.5, "top_k": 2, "cached": True},
    ),
    "UNet": (UNET, {"x": Tensor(IMAGES), "t": Tensor(SIGMAS), "label": Tensor(LABELS)}),
    "DiT": (DIT, {"x": Tensor(IMAGES), "t": Tensor(SIGMAS), "label": Tensor(LABELS)}),
    "TextDiT": (TEXT_DIT, {"x": Tensor(IMAGES), "t": Tensor(SIGMAS), "ids": TEXTS}),
    "TextDiT.attention_maps": (
        TEXT_DIT.attention_maps,
        {"x": Tensor(IMAGES), "t": Tensor(SIGMAS), "ids": TEXTS},
    ),
    "TextUNet": (
        cross_attention.TextUNet(1, (4, 4), 7, 3, 2, 4, 2, 1, 4),
        {"x": Tensor(IMAGES), "t": Tensor(SIGMAS), "ids": TEXTS},
    ),
    "TimeAndText": (
        cross_attention.TimeAndText(7, 3, 4, 4, 2, 1),
        {"t": Tensor(SIGMAS), "ids": TEXTS},
    ),
    "TextToImage.loss": (ARTIST.loss, {"images": IMAGES, "texts": TEXTS, "drop": 0.1}),
    "TextToImage.sample": (
        ARTIST.sample,
        {"texts": TEXTS, "noise": Tensor(IMAGES), "w": 1.0, "steps": 2, "sampler": "heun"},
    ),
    "TextToImage.inpaint": (
        ARTIST.inpaint,
        {
            "texts": TEXTS,
            "images": Tensor(IMAGES),
            "known": Tensor(IMAGES > 0.5),
            "w": 1.0,
            "steps": 2,
            "repeats": 1,
        },
    ),
    "TextToImage.edit": (
        ARTIST.edit,
        {
            "texts": TEXTS,
            "images": Tensor(IMAGES),
            "sigma": 2.0,
            "w": 1.0,
            "steps": 2,
            "sampler": "ddim",
        },
    ),
    "TextToImage.attention_maps": (
        ARTIST.attention_maps,
        {"texts": TEXTS, "x": Tensor(IMAGES), "sigma": SIGMAS},
    ),
    "guided by texts": (guidance.guided(same, TEXTS, 0, 1.0), {"x": Tensor(IMAGES), "t": 3}),
    "TimeAndLabel": (embedding.TimeAndLabel(4, 3), {"t": Tensor(SIGMAS), "label": Tensor(LABELS)}),
    "ScoreMLP": (networks.ScoreMLP(2, 4, 1, 2), {"x": X, "t": Tensor(SIGMAS)}),
    "RealNVP": (FLOW, {"x": X}),
    "RealNVP.inverse": (FLOW.inverse, {"z": X}),
    "RealNVP.log_prob": (FLOW.log_prob, {"x": X}),
    "RealNVP.sample": (FLOW.sample, {"n": 3}),
    "AffineCoupling": (FLOW.layers[0], {"x": X}),
    "AffineCoupling.inverse": (FLOW.layers[0].inverse, {"y": X}),
    "Logit": (flow.Logit(), {"x": Tensor(IMAGES)}),
    "Logit.inverse": (flow.Logit().inverse, {"y": Tensor(IMAGES)}),
    "MultiScale": (flow.MultiScale(), {"x": Tensor(IMAGES)}),
    "MultiScale.inverse": (flow.MultiScale().inverse, {"y": Tensor(IMAGES)}),
    "ActNorm": (glow.ActNorm(1), {"x": Tensor(IMAGES)}),
    "ActNorm.inverse": (glow.ActNorm(1).inverse, {"y": Tensor(IMAGES)}),
    "InvertibleConv1x1": (glow.InvertibleConv1x1(1), {"x": Tensor(IMAGES)}),
    "InvertibleConv1x1.inverse": (glow.InvertibleConv1x1(1).inverse, {"y": Tensor(IMAGES)}),
    "velocity": (flow_matching.velocity(same), {"x": X, "t": 0.5}),
    "Packed": (gan.Packed(logit, 2), {"x": X}),
    "Conditional": (gan.Conditional(same, 3), {"x": X, "labels": Tensor(LABELS)}),
    "DCGANGenerator": (gan_networks.DCGANGenerator(8, 2, 1, 2), {"z": X}),
    "GradientPenalty": (gan.GradientPenalty(), {"discriminator": logit, "real": X, "fake": X}),
    "R1": (gan.R1(), {"discriminator": logit, "real": X, "fake": X}),
    "denoiser": (diffusion.denoiser(same, SCHEDULE, "v"), {"x": X, "t": T}),
    "score_of": (tweedie.score_of(same, SCHEDULE), {"x": X, "t": T}),
    "denoiser_of": (tweedie.denoiser_of(same, SCHEDULE), {"x": X, "t": T}),
    "DDPM.perturb": (SCHEDULE.perturb, {"x0": X, "t": T, "z": X}),
    "DDPM.marginal": (SCHEDULE.marginal, {"t": T}),
    "DDPM.times": (SCHEDULE.times, {"steps": 3}),
    "DDPM.random_times": (SCHEDULE.random_times, {"x": X}),
    "VP.times": (sde.VP().times, {"steps": 3}),
    "VP.random_times": (sde.VP().random_times, {"x": X}),
    "EDM.marginal": (edm.EDM().marginal, {"t": Tensor(SIGMAS)}),
    "EDM.perturb": (edm.EDM().perturb, {"x0": X, "t": Tensor(SIGMAS), "z": X}),
    "EDM.random_times": (edm.EDM().random_times, {"x": X}),
    "guided": (guidance.guided(same, LABELS, 3, 1.0), {"x": X, "t": 3}),
    "edm_denoiser": (edm.edm_denoiser(same), {"x": X, "sigma": Tensor(SIGMAS)}),
    "VP.perturb": (sde.VP().perturb, {"x0": X, "t": Tensor(SIGMAS / 4), "z": X}),
    "VP.prior": (sde.VP().prior, {"shape": (4, 2), "like": np}),
    "VP.log_prior": (sde.VP().log_prior, {"x": POINTS}),
    "VE.marginal": (sde.VE().marginal, {"t": Tensor(SIGMAS / 4)}),
    "VP.diffusion": (sde.VP().diffusion, {"t": 0.5}),
    "VE.rate": (sde.VE().rate, {"t": 0.5}),
    "SubVP.diffusion": (sde.SubVP().diffusion, {"t": 0.5}),
    "LatentVP.marginal": (cross_entropy.LatentVP().marginal, {"t": Tensor(SIGMAS / 4)}),
    "LatentVP.weighted_times": (
        cross_entropy.LatentVP().weighted_times,
        {"z": X, "weighting": "ll"},
    ),
    "MixedScore": (LSGM.prior, {"z": X, "t": Tensor(SIGMAS / 4)}),
    "VelocityNoise": (
        mixed_score.VelocityNoise(networks.ScoreMLP(2, 4, 1, 2)),
        {"z": X, "t": Tensor(SIGMAS / 4)},
    ),
    "MixedScore.loss": (LSGM.prior.loss, {"z": X, "weighting": "re"}),
    "LSGM.loss": (LSGM.loss, {"x": IMAGES, "beta": 0.5}),
    "LSGM.terms": (LSGM.terms, {"x": IMAGES}),
    "LSGM.sample": (LSGM.sample, {"n": 2, "steps": 2}),
    "consistency_function": (
        distillation.consistency_function(same),
        {"x": X, "sigma": Tensor(SIGMAS)},
    ),
    "with_guidance": (
        distillation.with_guidance(same, 3, 1.0),
        {"x": X, "sigma": Tensor(SIGMAS), "labels": LABELS},
    ),
    "ConsistencyModel.loss": (STUDENT.loss, {"teacher": same, "x0": X}),
    "ConsistencyModel.sample": (STUDENT.sample, {"noise": X, "steps": 2}),
    "LatentDiffusion.standardise": (TWO_STAGES.standardise, {"images": IMAGES}),
    "LatentDiffusion.loss": (TWO_STAGES.loss, {"x": IMAGES, "mean": -0.6, "std": 1.2}),
    "LatentDiffusion.sample_latents": (TWO_STAGES.sample_latents, {"n": 2, "steps": 2}),
    "VideoDiT": (
        VIDEO_DIT,
        {
            "x": Tensor(VIDEOS),
            "t": Tensor(SIGMAS),
            "given": Tensor(VIDEOS),
            "seen": video.first_frames(LABELS, 2),
            "ids": LABELS[:, None],
        },
    ),
    "VideoDiffusion.standardise": (VIDEO_MODEL.standardise, {"videos": VIDEOS}),
    "VideoDiffusion.encode": (VIDEO_MODEL.encode, {"videos": VIDEOS}),
    "VideoDiffusion.decode": (VIDEO_MODEL.decode, {"y": VIDEOS, "frame": (1, 8, 8)}),
    "VideoDiffusion.loss": (
        VIDEO_MODEL.loss,
        {
            "videos": VIDEOS,
            "seen": video.first_frames(LABELS, 2),
            "ids": LABELS[:, None],
            "mean": 1.0,
            "std": 1.2,
        },
    ),
    "VideoDiffusion.predict": (
        VIDEO_MODEL.predict,
        {"given": VIDEOS, "frames": 3, "ids": LABELS[:, None], "steps": 2, "w": 1.0},
    ),
    "VideoDiffusion.extend": (
        VIDEO_MODEL.extend,
        {"video": VIDEOS, "frames": 3, "window": 2, "keep": 1},
    ),
    "inpainting": (
        inpaint.inpainting(lambda x, t, s: x, SCHEDULE, X, Tensor(POINTS > 0)),
        {"x": X, "t": 5, "s": 2},
    ),
    "fit_gan": (
        lambda **options: turns.fit_gan(*game(), **options, progress=False),
        {
            "epochs": 1,
            "game": gan.HINGE,
            "critic_steps": 1,
            "unroll": 0,
            "unroll_lr": 1e-3,
            "evaluate_every": 1,
            "penalty": gan.R1(),
            "schedule": lambda step: 1.0,
            "evaluate": lambda g: {"looked": 1.0},
            "parallel": None,
        },
    ),
    "train_dcgan": (
        recipe.train_dcgan,
        {
            "generator": gan_networks.PointGenerator(2, 2, 4, 1),
            "discriminator": gan_networks.PointMLP(2, 1, 4, 1),
            "loader": DataLoader(POINTS, batch_size=2),
            "epochs": 1,
            "seed": 3,
            "evaluate": lambda g: {"looked": 1.0},
            "evaluate_every": 1,
            "device": "cpu",
        },
    ),
    "play": (
        lambda **options: plane.play(**options),
        {"density": grid(2), "method": "GAN", "steps": 1, "moments": 1},
    ),
    "judge_of": (
        lambda images, labels: judge.judge_of(images, labels, 0),
        {"images": IMAGES, "labels": LABELS},
    ),
}


for name, model in PIXEL_MODELS.items():
    which = {"which": 1} if name == "MADE" else {}
    FORWARDS[f"{name}.log_prob"] = (model.log_prob, {"x": BITS, **which})
    FORWARDS[f"{name}.sample"] = (
        model.sample,
        {"n": 2, "given": BITS, "known": FIRST_ROWS, **which},
    )


def game():
    g, d = gan_networks.PointMLP(2, 2, 4, 1), gan_networks.PointMLP(2, 1, 4, 1)
    return (
        g,
        d,
        SGD(g.parameters(), lr=0.1),
        SGD(d.parameters(), lr=0.1),
        DataLoader(POINTS, batch_size=4),
    )


ALSO = {
    "VideoDiT": ("VideoDiT", "TextEncoder"),
    "VideoDiffusion.loss": ("VideoDiffusion", "video_loss", "VideoDiT", "TextEncoder"),
    "VideoDiffusion.predict": ("VideoDiffusion", "VideoDiT", "TextEncoder", "guided"),
    "VideoDiffusion.extend": ("VideoDiffusion", "VideoDiT"),
    **{f"{name}.log_prob": (name,) for name in PIXEL_MODELS},
    **{f"{name}.sample": (name,) for name in PIXEL_MODELS},
    "RealNVP.inverse": ("RealNVP",),
    "RealNVP.log_prob": ("RealNVP",),
    "RealNVP.sample": ("sample",),
    "AffineCoupling.inverse": ("AffineCoupling",),
    "MultiScale": ("MultiScale", "pixel_unshuffle"),
    "MultiScale.inverse": ("MultiScale", "pixel_unshuffle"),
    "denoiser": ("denoiser", "DDPM."),
    "score_of": ("score_of", "DDPM."),
    "denoiser_of": ("denoiser_of", "DDPM."),
    "DDPM.times": ("DDPM.times: steps",),
    "R1": ("R1", "slopes"),
    "VP.perturb": ("VP.perturb", "VP.marginal"),
    "EDM.perturb": ("EDM.perturb", "EDM.marginal"),
    "DDPM.perturb": ("DDPM.perturb", "DDPM.marginal"),
    "LatentVP.marginal": ("VP.marginal",),
    "MixedScore": ("MixedScore", "ScoreMLP", "VP.marginal"),
    "VelocityNoise": ("VelocityNoise", "ScoreMLP", "VP."),
    "MixedScore.loss": ("MixedScore.loss", "LatentVP.weighted_times", "MixedScore: z"),
    "LSGM.terms": ("VAE.encode",),
    "TextDiT.attention_maps": ("TextDiT",),
    "TimeAndText": ("TimeAndText", "TextEncoder", "TimeAndLabel"),
    "TextToImage.loss": ("TextToImage.loss", "encode: texts"),
    "TextToImage.sample": ("TextToImage.sample", "encode: texts"),
    "TextToImage.inpaint": ("TextToImage.inpaint", "encode: texts"),
    "TextToImage.edit": ("TextToImage.edit", "encode: texts"),
    "TextToImage.attention_maps": ("TextToImage.attention_maps", "encode: texts"),
    "guided by texts": ("guided",),
    "LSGM.loss": ("LSGM.loss", "VAE.encode"),
    "LSGM.sample": ("LSGM.sample_latents",),
    "with_guidance": ("with_guidance", "guided"),
    "ConsistencyModel.loss": (
        "ConsistencyModel.loss",
        "consistency_loss",
        "teacher_step",
        "ScoreMLP",
    ),
    "ConsistencyModel.sample": ("ConsistencyModel.sample", "ScoreMLP"),
    "LatentDiffusion.standardise": ("LatentDiffusion.standardise", "VAE.encode"),
    "LatentDiffusion.loss": ("VAE.encode", "edm_loss"),
    "DCGANGenerator": ("DCGANGenerator", "batch_norm"),
    "GradientPenalty": ("GradientPenalty", "slopes"),
    "play": ("play", "fit_gan"),
    "train_dcgan": ("train_dcgan", "fit_gan"),
    "judge_of": ("judge_of", "Judge"),
    "VAE.log_likelihood": ("VAE.log_likelihood", "VAE.decode"),
    "VQVAE.revive": ("VQVAE.revive", "VectorQuantizer.revive"),
    "VAE.pixels": ("VAE.decode",),
    "VAE.sample": ("VAE.sample", "VAE.decode"),
}


@pytest.mark.parametrize("name", FORWARDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_networks_and_closures_name_a_wrong_argument(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    function, good = FORWARDS[name]
    function(**good)
    found = riddles(function, good, *ALSO.get(name, (name,)))
    assert not found, "\n".join(found)


# ── what functions written by the user return ────────────────────────────────────────────────────

WRONG = {
    "None": lambda x, *_: None,
    "a number": lambda x, *_: 1.0,
    "another shape": lambda x, *_: x[:, :1],
    "one axis less": lambda x, *_: x.sum(axis=-1),
    "complex": lambda x, *_: np.zeros(x.shape, complex),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "call",
    [
        lambda f: langevin.ula(f, POINTS, 0.1, 1),
        lambda f: langevin.mala(density, f, POINTS, 0.1, 1),
        lambda f: langevin.annealed(f, POINTS, [1.0], 1, 0.1),
        lambda f: score.explicit(f, X),
        lambda f: score.sliced(f, X),
        lambda f: score.sliced_vr(f, X),
        lambda f: score.denoising(f, X, 0.5),
        lambda f: ode.solve(f, POINTS, [0, 1]),
        lambda f: ode.log_likelihood(sde.VP(), f, POINTS, [0.1, 1]),
        lambda f: ode.flow_log_likelihood(f, POINTS, [0, 1]),
        lambda f: flow_matching.flow_matching_loss(f, X),
        lambda f: flow_matching.velocity(f)(X, 0.5),
        lambda f: sde.predictor_corrector(sde.VP(), f, POINTS, [1, 0.5]),
        lambda f: sde.euler_maruyama(sde.VP().reverse(f), POINTS, [1, 0.5]),
        lambda f: samplers.ddpm_step(f, SCHEDULE, X, 5, 2),
        lambda f: samplers.ddim_step(f, SCHEDULE, X, 5, 2),
        lambda f: samplers.sample(f, X, [2, 1]),
        lambda f: edm.heun_step(f, X, 2.0, 1.0),
        lambda f: edm.edm_denoiser(f)(X, 1.0),
        lambda f: edm.edm_loss(f, X),
        lambda f: distillation.consistency_function(f)(X, 1.0),
        lambda f: distillation.teacher_step(f, X, 2.0, 1.0),
        lambda f: distillation.consistency_step(f, X, 2.0, 1.0),
        lambda f: distillation.consistency_loss(f, same, same, X, levels=[2.0, 1.0]),
        lambda f: distillation.consistency_loss(same, f, same, X, levels=[2.0, 1.0]),
        lambda f: distillation.consistency_loss(same, same, f, X, levels=[2.0, 1.0]),
        lambda f: diffusion.diffusion_loss(f, X, schedule=SCHEDULE),
        lambda f: diffusion.denoiser(f, SCHEDULE)(X, 3),
        lambda f: diffusion.clipped(f)(X, 3),
        lambda f: guidance.guided(f, LABELS, 3, 1.0)(X, 3),
        lambda f: cross_entropy.score_cross_entropy(f, sde.VP(), X, 0.5, 1.0, first=0.01),
        lambda f: inpaint.inpainting(f, SCHEDULE, X, Tensor(POINTS > 0))(X, 5, 2),
    ],
)
def test_a_wrong_result_of_the_users_function_is_refused(call, wrong):
    with pytest.raises(
        (TypeError, ValueError),
        match=r"\w: \w+ returned .*; it must return real numbers of shape \(\d",
    ):
        call(WRONG[wrong])


@pytest.mark.parametrize("wrong", ["None", "a number", "another shape", "complex"])
def test_a_log_density_that_is_not_one_number_per_point_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="mala: log_density returned"):
        langevin.mala(WRONG[wrong], same, POINTS, 0.1, 1)


@pytest.mark.parametrize("penalty", [gan.GradientPenalty(), gan.R1()])
@pytest.mark.parametrize(
    "wrong", [lambda x: None, lambda x: x.sum(), lambda x: x[:3, 0], lambda x: x.numpy()]
)
def test_a_discriminator_without_one_logit_per_example_or_pack_is_refused(penalty, wrong):
    with pytest.raises(
        ValueError, match="slopes: discriminator returned .*; it must return a Tensor with a logit"
    ):
        penalty(wrong, X, X)


def test_networks_that_do_not_fit_together_are_refused():
    g, d, g_adam, d_adam, loader = game()
    with pytest.raises(ValueError, match="generator made fakes of shape .*they must be equal"):
        big = gan_networks.PointMLP(2, 3, 4, 1)
        turns.fit_gan(big, d, SGD(big.parameters(), lr=0.1), d_adam, loader, 1, progress=False)
    plain = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="generator has no attribute latent"):
        turns.fit_gan(plain, d, SGD(plain.parameters(), lr=0.1), d_adam, loader, 1, progress=False)
    with pytest.raises(TypeError, match="fit_gan: generator is 'g'; it must be a Module"):
        turns.fit_gan("g", d, g_adam, d_adam, loader, 1)
    with pytest.raises(TypeError, match="(?s)fit_gan: loader is .*; it must be a DataLoader"):
        turns.fit_gan(g, d, g_adam, d_adam, [(X,)], 1)
    with pytest.raises(TypeError, match="fit_gan: ema is 3; it must be an EMA"):
        turns.fit_gan(g, d, g_adam, d_adam, loader, 1, ema=3, progress=False)
    with pytest.raises(ValueError, match="ema must be of the generator"):
        turns.fit_gan(g, d, g_adam, d_adam, loader, 1, ema=EMA(d), progress=False)


def test_the_first_wrong_label_is_named():
    for wrong in (-1, 3):
        with pytest.raises(
            IndexError, match=f"labels holds {wrong}; it must hold whole numbers from 0 to 2"
        ):
            labels_in(np.array([0, wrong]), "labels", 2)


MASKED = np.ma.masked_array([1, 2], [True, False])
TWO = POINTS[:2]


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: gan.Conditional(nn.Linear(2, 2), 3)(TWO, MASKED),
            "Conditional: labels is MaskedArray",
        ),
        (lambda: guidance.without_some(MASKED, 3), "without_some: labels is MaskedArray"),
        (lambda: edm.noise_levels(MASKED / 2, TWO), "noise_levels: sigma is MaskedArray"),
        (
            lambda: inpaint.inpainting(
                lambda x, t, s: x, SCHEDULE, TWO[:, 0], np.ma.masked_array([True, False])
            ),
            "inpainting: known is MaskedArray",
        ),
        (lambda: SCHEDULE.marginal_for(TWO, MASKED), "DDPM.marginal: t is "),
        (lambda: sde.VP().marginal(MASKED / 2), "VP.marginal: t is MaskedArray"),
        (lambda: sde.VP().drift(None, 0.5), "SDE.drift: x is None"),
        (lambda: sde.VP().prior((2,), "abc"), "VP.prior: like is 'abc'"),
        (lambda: sde.VP().score_of(lambda x, t: x), "VP.score_of: density is "),
        (lambda: ode.solve(same, TWO, [0, 1], step=lambda *_: None), "solve: step returned None"),
        (
            lambda: ode.log_likelihood(sde.VP(), same, TWO, [0, 1], step=lambda *_: None),
            "solve: step returned None",
        ),
        (
            lambda: score.explicit(lambda x: x.numpy(), TWO),
            "with_divergence: field returned ndarray .* must return a Tensor",
        ),
        (lambda: langevin.Chain(TWO).history(None), "Chain.history: name is None"),
        (
            lambda: langevin.Chain(TWO).history("path"),
            "Chain.history: name is 'path'; it must be one of",
        ),
        (lambda: unet.PixelAttention(4, 2)(None), "PixelAttention: x is None"),
        (lambda: gan_networks.Maxout(2, 3, 2)(None), "Maxout: x is None"),
        (lambda: gan_networks.Maxout(2, 3, 2)(MASKED / 2), "Maxout: x is MaskedArray"),
    ],
)
def test_arguments_that_once_passed_or_gave_an_unclear_error_are_named(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call()


@pytest.mark.parametrize("device", ["", 0, [], False])
def test_a_device_that_is_not_a_device_name_is_refused(device):
    g, d, g_adam, d_adam, loader = game()
    with pytest.raises((TypeError, ValueError), match="fit_gan: .*(device|cpu)"):
        turns.fit_gan(g, d, g_adam, d_adam, loader, 1, progress=False, device=device)


@pytest.mark.parametrize("lr", [-1, -1e-9, np.inf, np.nan])
def test_unrolling_refuses_a_negative_or_infinite_learning_rate(lr):
    with (
        pytest.raises(ValueError, match="unrolled: lr is"),
        unrolled(nn.Linear(2, 1), lambda: 0, 1, lr),
    ):
        pass


def test_score_of_takes_one_time_for_all_points_or_one_per_point():
    score_of, x = sde.VP().score_of(grid()), TWO
    assert (score_of(x, 0.5) == score_of(x, np.full(2, 0.5, np.float32))).all()
