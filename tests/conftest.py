"""What every test shares: one thread per process, and no socket to the outside."""

import torch

torch.set_num_threads(1)
