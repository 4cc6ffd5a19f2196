"""The ONNX graph: conversion from PyTorch, lowering, editing, exact rewrites (passes)."""
