"""The map of the lecture "Frontiers of computer vision": one Slide per row, in the lecture's order.

demos/readme.py turns it into the maps of README.md and README.zh.md. The sentence of a row is the
title of the demo's picture, from its record, unless the slide gives its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slide:
    """One subject of the lecture.

    english, chinese: its name. files: what to read, below tinycv/. demo: number of the demo that
    shows it. test: the file that checks it. proves: what the demo's picture proves,
    where its title does not say it. proves_chinese: the same in Chinese.
    """

    english: str
    chinese: str
    files: tuple[str, ...]
    demo: str
    test: str
    proves: str
    proves_chinese: str


LECTURE = (
    Slide(
        "RNN, and why its gradient vanishes",
        "循环神经网络（RNN）与梯度消失",
        ("sequence/rnn.py",),
        "02",
        "tests/sequence/test_recurrent.py",
        "Over 100 steps the gradient of a plain RNN vanishes, before training and after it.",
        "经过一百步，普通 RNN 的梯度消失，训练前后都是如此。",
    ),
    Slide(
        "LSTM: forget, input and output gates",
        "LSTM：遗忘门、输入门、输出门",
        ("sequence/lstm.py",),
        "02",
        "tests/sequence/test_lstm.py",
        "",
        "训练之后，LSTM 的一个单元保存着一百步之前的数。",
    ),
    Slide(
        "Seq2seq: encoder and decoder",
        "序列到序列（seq2seq）：编码器与解码器",
        ("sequence/seq2seq.py",),
        "03",
        "tests/sequence/test_seq2seq.py",
        "",
        "一个向量装得下短句，装不下长句。",
    ),
    Slide(
        "Attention (Bahdanau, Luong)",
        "注意力机制（Bahdanau、Luong）",
        ("sequence/align.py",),
        "04",
        "tests/sequence/test_align.py",
        "",
        "解码器写每个词时，回看源句中对应的词。",
    ),
    Slide(
        "Scaled dot-product and multi-head attention",
        "缩放点积注意力与多头注意力",
        ("sequence/attention.py",),
        "05",
        "tests/sequence/test_attention.py",
        "How Q, K and V become an output, with numbers: "
        "[diagram](demos/gallery/diagram_attention.png).",
        "Q、K、V 如何得到输出（带数字）：[图](demos/gallery/diagram_attention.png)。",
    ),
    Slide(
        "Transformer",
        "Transformer",
        ("sequence/transformer.py", "sequence/encoder_decoder.py"),
        "05",
        "tests/sequence/test_transformer.py",
        "",
        "没见过的日期也能译对；有一个头主要看着正被抄写的那个数字。",
    ),
    Slide(
        "Vision Transformer (ViT)",
        "视觉 Transformer（ViT）",
        ("vision/vit.py",),
        "06",
        "tests/vision/test_vit.py",
        "",
        "图像切成小块，再像读句子里的词一样读取。",
    ),
    Slide(
        "Inside a ViT: attention maps, rollout, positions",
        "ViT 内部：注意力图、rollout、位置编码",
        ("vision/inside.py",),
        "07",
        "tests/vision/test_inside.py",
        "",
        "CLS 看的是笔画，但单凭“哪里有墨”几乎就能解释这张图。",
    ),
    Slide(
        "GAN: generator and discriminator, mode collapse",
        "生成对抗网络（GAN）：生成器、判别器、模式崩溃",
        ("adversarial/gan.py", "adversarial/turns.py"),
        "08",
        "tests/adversarial/test_gan.py",
        "",
        "普通 GAN 丢失一些模式；加上 R1 惩罚，全部找到。",
    ),
    Slide(
        "DCGAN: images",
        "DCGAN：生成图像",
        ("adversarial/networks.py",),
        "09",
        "tests/adversarial/test_gan_networks.py",
        "",
        "GAN 从噪声生成数字，并非照抄训练样本。",
    ),
    Slide(
        "GAN: vector arithmetic on faces",
        "GAN：人脸的向量运算",
        ("adversarial/arithmetic.py", "data/faces.py"),
        "10",
        "tests/adversarial/test_arithmetic_of_vectors.py",
        "",
        "合成人脸：戴眼镜的男人 − 男人 + 女人 = 戴眼镜的女人；三个向量的平均比单个稳定。",
    ),
    Slide(
        "GAN: label map to image",
        "GAN：标签图到图像",
        ("adversarial/spade.py",),
        "11",
        "tests/adversarial/test_spade.py",
        "",
        "标签在归一化之后才进入网络（SPADE），就不会被抹去；拼接的标签则会：整幅天空与整片草地变成同一张图。",
    ),
    Slide(
        "Style transfer",
        "风格迁移",
        ("vision/style.py", "vision/adain.py"),
        "12",
        "tests/vision/test_style.py",
        "",
        "不用训练好的网络也能迁移风格：优化像素，直到随机滤波器的 Gram 矩阵与风格图一致。",
    ),
    Slide(
        "VAE",
        "变分自编码器（VAE）",
        ("likelihood/vae.py", "likelihood/ais.py"),
        "20",
        "tests/likelihood/test_vae.py",
        "",
        "后验坍缩：VAE 只用一部分隐变量，层数更多时更少；用 IWAE 的下界则几乎全用，似然更高。",
    ),
    Slide(
        "Normalizing flow",
        "标准化流",
        ("likelihood/flow.py", "likelihood/glow.py", "diffusion/flow_matching.py"),
        "21",
        "tests/likelihood/test_flow.py",
        "",
        "可逆网络给出每个点的精确似然，平均负对数似然不会低于熵；流匹配学习速度，不需要行列式。",
    ),
    Slide(
        "Autoregressive models of images",
        "图像的自回归模型",
        ("likelihood/autoregressive.py", "likelihood/pixelcnn.py", "likelihood/image_gpt.py"),
        "22",
        "tests/likelihood/test_autoregressive.py",
        "",
        "逐像素预测给出精确的似然，优于 Chow-Liu 树；PixelCNN 的盲区由梯度测出。",
    ),
    Slide(
        "Brownian motion, and its reversal",
        "布朗运动及其逆过程",
        ("diffusion/sde.py",),
        "13",
        "tests/diffusion/test_sde.py",
        "",
        "沿着得分函数倒着走，新的噪声变回照片的分布。",
    ),
    Slide(
        "Score function and score matching",
        "得分函数与得分匹配",
        ("diffusion/score.py",),
        "14",
        "tests/diffusion/test_score.py",
        "",
        "只看样本就能学到未知密度的得分。",
    ),
    Slide(
        "Langevin dynamics, annealed",
        "朗之万动力学（退火）",
        ("diffusion/langevin.py",),
        "15",
        "tests/diffusion/test_langevin.py",
        "",
        "不退火，两个模式的比例就是错的。",
    ),
    Slide(
        "Manifold hypothesis",
        "流形假设",
        ("data/surfaces.py", "diffusion/edm.py"),
        "16",
        "tests/data/test_surfaces.py",
        "",
        "得分把任何点拉回数据所在的低维曲面。",
    ),
    Slide(
        "Diffusion models (DDPM, DDIM), guidance",
        "扩散模型（DDPM、DDIM）与引导",
        (
            "diffusion/denoising.py",
            "diffusion/samplers.py",
            "diffusion/guidance.py",
            "diffusion/unet.py",
        ),
        "17",
        "tests/diffusion/test_samplers.py",
        "",
        "数字从噪声中产生，并非照抄训练样本。",
    ),
    Slide(
        "Score SDE, probability flow, likelihood",
        "得分 SDE、概率流与似然",
        ("diffusion/ode.py",),
        "18",
        "tests/diffusion/test_ode.py",
        "",
        "扩散模型能算出每个点的概率密度。",
    ),
    Slide(
        "GAN or diffusion?",
        "GAN 还是扩散？",
        ("adversarial/plane.py", "diffusion/edm.py"),
        "19",
        "tests/adversarial/test_plane.py",
        "",
        "谁更稳定，谁不遗漏模式，谁更快：三项实测。",
    ),
    Slide(
        "Latent score models (LSGM)",
        "隐空间得分模型（LSGM）",
        ("diffusion/latent.py", "diffusion/cross_entropy.py"),
        "23",
        "tests/diffusion/test_latent.py",
        "",
        "同一个解码器：用扩散模型学出的先验代替 N(0, I)，生成的数字就清楚得多。",
    ),
    Slide(
        "Text to image by codes (VQ-VAE, DALL-E 1)",
        "用编码从文本生成图像（VQ-VAE、DALL-E 1）",
        ("likelihood/vq_vae.py", "likelihood/dalle.py", "vision/clip.py"),
        "24",
        "tests/likelihood/test_dalle.py",
        "A GPT over the codes of a discrete VAE draws what the caption says, and the positions of "
        "its shapes vary as much as in real drawings. In the pictures of diffusion they vary less, "
        "with guidance or without.",
        "GPT 逐个写出离散 VAE 的编码，照着句子画图，位置与真图一样多变；"
        "扩散模型的变化较少，不加引导也是。",
    ),
    Slide(
        "Text to image by diffusion (DALL-E 2)",
        "用扩散模型从文本生成图像（DALL-E 2）",
        ("diffusion/cross_attention.py", "diffusion/text_to_image.py"),
        "24",
        "tests/diffusion/test_text_to_image.py",
        "",
        "引导让扩散模型更照着句子画图，训练中从未一起出现的形状与颜色也能组合。",
    ),
    Slide(
        "Video (Sora)",
        "视频（Sora）",
        ("diffusion/video_dit.py", "diffusion/video.py", "vision/tubelets.py"),
        "25",
        "tests/diffusion/test_video.py",
        "",
        "速度与训练时相近的小球，模型预测得准；更快的小球，在生成的视频里变慢了。",
    ),
)
