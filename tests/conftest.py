"""What every test shares."""

import torch

torch.set_num_threads(1)  # as in a worker; two threads on two busy cores are many times slower
