"""Graphs: conversion from PyTorch, protobuf at the borders, FFT lowering, look-ups, editing, exact rewrites."""
