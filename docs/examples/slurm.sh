#!/bin/bash
# Two machines with four GPUs each. Written after the manuals of Slurm and torchrun; NOT RUN by us.
# Change the paths and the account, then: sbatch slurm.sh
#SBATCH --job-name=unetlab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
#SBATCH --output=%x-%j.log

set -euo pipefail
DATA=/shared/data/my_set   # seen by all machines under this path
RUN=/shared/runs/my_run
source /shared/unetlab/.venv/bin/activate

FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# A job that is sent back to the queue goes on where its run stopped.
if compgen -G "$RUN/checkpoint-*.safetensors" > /dev/null; then
    WHAT=(--resume "$RUN")
else
    WHAT=(--images "$DATA/images" --masks "$DATA/masks" --out "$RUN" --batch-size 64)
fi

srun torchrun \
    --nnodes="$SLURM_NNODES" --nproc-per-node=4 \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$FIRST:29400" \
    -m unetlab train "${WHAT[@]}"
