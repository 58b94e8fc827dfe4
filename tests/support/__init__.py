"""What the tests share: fixture plugins by concern, and the real servers behind them."""
