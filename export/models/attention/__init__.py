"""The attention modules: one family with one interface, usable in every backbone."""
