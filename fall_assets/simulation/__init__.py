"""A simulated hospital: people that move and fall, the cameras that see them, and their files.

`hospital.generate` writes footage with its truth; `poses.pose_windows` gives the same motions as
key points without pictures. What does not belong here: anything that real footage needs too.
"""

from fall_assets.simulation.hospital import HospitalSpec, HospitalSummary, generate

__all__ = ["HospitalSpec", "HospitalSummary", "generate"]
