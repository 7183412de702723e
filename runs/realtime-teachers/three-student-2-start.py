"""The sparse student's weights with every synapse of its hidden layer open again, those that were cut at 0."""
from dataclasses import replace
from pathlib import Path
import torch
from train.checkpoint import load_agent, save_agent
a=load_agent(Path("runs/three-student/agent.pt"))
n=a.network
with torch.no_grad():
    h=n.layer("hidden"); F=(h.folded_weight()/h.drive).clone()
    rows=F.flatten(1)
    print("kept", float(h.mask.float().mean()), "mean of rows relative to std", float((rows.mean(1)/rows.std(1)).abs().mean()))
    h.synapses.weight.copy_(F)
    std=rows.std(1,correction=0)
    h.standardise.gain.copy_(std*rows.shape[1]**0.5/2)
    h.mask.fill_(True)
    G=h.folded_weight()/h.drive
    print("largest difference", float((G-F).abs().max()), float(F.abs().max()), float(rows.sum(1).abs().mean()))
save_agent(a, Path("runs/stage2-start.pt"))
