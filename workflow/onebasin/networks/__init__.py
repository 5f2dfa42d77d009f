"""Networks: plain `nn.Module`s, one file a family, looked up by name; `package.module:callable` names a user's own."""
