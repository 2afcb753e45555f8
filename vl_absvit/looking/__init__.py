"""Where the model looks: tokens to maps, maps to places in the original picture, and pictures of both."""
