"""Real-time 6-DoF pose estimation of known objects from one RGB camera (MRC-Net)."""

__version__ = '0.1.0'
