#!/bin/bash
# A sweep on the machines of a SLURM allocation: starts Ray on each, trains, and ends Ray with the job.
#
#   sbatch --nodes 4 --cpus-per-task 16 tasks/examples/slurm_ray.sh --suite in_context --model gpt --out sweep
#
# What follows the script's name is given to `mstep-bench run`. The working directory holds the run folders, and only the
# first machine writes them. A job that ends at its time limit loses nothing: the same command resumes it.
# Every machine needs the same environment: activate yours below. With GPUs, add --gpus-per-node to the command.
#SBATCH --job-name=multistep-bench
#SBATCH --ntasks-per-node=1
set -euo pipefail

# source ~/venv/bin/activate

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(head -n 1 <<< "$nodes")
count=$(wc -l <<< "$nodes")
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a machine do not share a Ray
address="$head:$port"
cores=${SLURM_CPUS_PER_TASK:-1}

trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT

srun --nodes 1 --ntasks 1 --nodelist "$head" \
    ray start --head --node-ip-address "$head" --port "$port" --num-cpus "$cores" --include-dashboard false --block &
until ray health-check --address "$address" > /dev/null 2>&1; do
    kill -0 $! || exit 1 # it ended: srun has said why
    sleep 1
done
if ((count > 1)); then
    srun --nodes $((count - 1)) --ntasks $((count - 1)) --exclude "$head" \
        ray start --address "$address" --num-cpus "$cores" --block &
fi
until (($(python -c "
import ray
ray.init('$address', log_to_driver=False, logging_level='ERROR')
print(sum(node['Alive'] for node in ray.nodes()))") >= count)); do
    sleep 1
done

mstep-bench run --launcher ray --address "$address" "$@"
