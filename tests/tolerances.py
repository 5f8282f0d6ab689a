"""Every tolerance of the tests, each with its reason."""

# Two JPEG decoders round differently in the inverse cosine transform and in the upsampling
# of colour: at most 3 levels on pydicom's SonoSite cine.
JPEG_LEVELS = 4

# NIfTI stores spacing as float32: 7 digits.
SPACING_RELATIVE = 1e-6

# LittleCMS through Pillow gives CIELab in bytes, each 257 of DICOM's words wide.
CIELAB_WORDS = 257

# The same sums of a few hundred products in another order, in float64: 1e-16 each.
FLOAT64_ATOL = 1e-10

# NIfTI keeps its affine in float32: places of tens of mm, off by 1e-7 of themselves.
NIFTI_PLACE_MM = 1e-5

# Two runtimes add the same f32 products in different orders: some roundings of 6e-8 each,
# grown through the layers; measured 2e-7 on logits of size 1.
F32_LOGIT_ATOL = 1e-5

# Bundled weights are rounded to 9 significant bits, so each is off by up to 1e-3 of itself;
# the errors add like a random walk. Relative to the largest logit; measured 6e-4.
STORED_WEIGHTS_RTOL = 5e-3

# bf16 rounds every activation to 8 significant bits, 4e-3 of itself, layer upon layer.
BF16_RTOL = 0.05

# 8 bits leave 255 levels to an activation, and errors of half a level add up over the
# layers. Mean over all logits, relative to the largest; measured 0.01.
INT8_MEAN_RTOL = 0.03

# A SEG of 30 frames and 3 structures takes 0.15 s; a loaded machine may take ten times that.
SEG_SECONDS = 2.0

# The card's accuracy was computed by the same graph; another processor rounds sums otherwise,
# which moves a few border pixels of each mask.
CARD_DICE = 1e-3

# 1000 headers take 0.6 s on one core here; a loaded machine may take ten times that.
HEADERS_SECONDS = 6.0

# Every bad image is refused within 2 s, on a loaded machine of two cores too.
REFUSAL_SECONDS = 2.0

# It takes at most 1 GB, of which the process that opens it has 150 MB without any image.
IMAGE_BYTES = 850e6

# A bilateral grid of two cells for a standard deviation stands for a Gaussian over all pairs;
# measured 0.008 on chances, after five rounds.
CRF_CHANCE_ATOL = 0.02

# Chances computed in float32 beside float64: 6e-8 each, over rounds and sums of hundreds.
FLOAT32_CHANCE_ATOL = 1e-4

# Routed attention adds 1e-5 to gates; with half of the heads gone their affinity doubles, and
# the floor weighs half as much. Measured 1e-5 on outputs of size 1.
ROUTED_HEADS_RTOL = 1e-4

# One head of keys in place of two halves the affinity of regions, which at random weights is
# small: the floor of gates weighs twice as much beside it. Measured 1.5e-3.
ROUTED_MERGE_RTOL = 1e-2
