"""What makes an oracle needs packages that our tests don't: it is not collected."""

collect_ignore = ["make_jax_privacy.py"]
