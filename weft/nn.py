"""Functions of neural networks, on arrays and, inside compiled functions, on traced values.

Names and arguments are those of `jax.nn` and `torch.nn.functional` where these agree. Results have
the arguments' own element type. Outside a compiled function each is compiled for itself.
"""

from weft.frontend.nn.activation import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softplus,
    squareplus,
    swish,
)
from weft.frontend.nn.attention import (
    embedding,
    multi_head_attention,
    one_hot,
    scaled_dot_product_attention,
)
from weft.frontend.nn.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from weft.frontend.nn.ctc import (
    ctc_loss,
)
from weft.frontend.nn.dropout import dropout
from weft.frontend.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from weft.frontend.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    log_softmax,
    logsumexp,
    rms_norm,
    softmax,
    standardize,
)
from weft.frontend.nn.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    global_avg_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    min_pool2d,
    sum_pool2d,
)
from weft.frontend.nn.recurrent import (
    gru,
    gru_cell,
    lstm,
    lstm_cell,
)

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "celu", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "cross_entropy", "ctc_loss",
    "dropout", "elu", "embedding", "gelu", "global_avg_pool", "global_max_pool", "glu",
    "group_norm", "gru", "gru_cell", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "hinge_loss", "huber_loss", "instance_norm", "kl_div", "l1_loss", "layer_norm", "leaky_relu",
    "log_sigmoid", "log_softmax", "logsumexp", "lstm", "lstm_cell", "max_pool1d", "max_pool2d",
    "max_pool3d", "min_pool2d", "mish", "mse_loss", "multi_head_attention", "one_hot", "relu",
    "relu6", "rms_norm", "scaled_dot_product_attention", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "soft_sign", "softmax", "softplus", "squareplus", "standardize",
    "sum_pool2d", "swish",
]
